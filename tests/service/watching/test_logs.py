"""JSON lines."""

import json
import logging
import re
import subprocess
import sys

import pytest

from service.watching.logs import JsonFormatter


@pytest.fixture
def lines(client, caplog):
    """Send a request and read the access lines that it left, as they are written."""

    def send(method, path, **arguments):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="service.access"):
            client.open(path, method=method, **arguments)
        records = [record for record in caplog.records if record.name == "service.access"]
        return [json.loads(JsonFormatter().format(record)) for record in records]

    return send


def test_one_request_leaves_one_line(lines):
    """The line has every field that an operator needs."""
    (line,) = lines("POST", "/score", json={"instances": [[1, 2, 3]]}, headers={"X-Request-Id": "abc"})

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 <= line.pop("duration_seconds") < 10
    assert line == {
        "level": "info",
        "logger": "service.access",
        "message": "request",
        "request_id": "abc",
        "method": "POST",
        "path": "/score",
        "status": 200,
        "problem": None,
        "model": "tiny",
        "version": "1",
        "rows": 1,
        "client": "127.0.0.1",
    }


def test_a_refused_request_leaves_its_template(lines):
    """Values that a client sent appear nowhere in the line."""
    (line,) = lines("GET", "/models/none")

    assert (line["path"], line["status"], line["model"], line["rows"]) == ("/models/{name}", 404, None, None)
    assert line["problem"] == "no-such-model"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/nowhere", "/nowhere"),
        ("/a?key=secret", "/a"),
        ("/" + "a" * 5000, "/" + "a" * 199),
        ("/a%0A%22%1B%5B31m", '/a\\n"\\x1b[31m'),
        ("/caf%C3%A9%E2%80%AE", "/caf\\xe9\\u202e"),
    ],
)
def test_path_without_a_route_is_cut_and_escaped(lines, path, shown):
    """Otherwise nobody could tell what was asked for; a query may hold secrets."""
    (line,) = lines("GET", path)

    assert (line["path"], line["status"]) == (shown, 404)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_scrapes_leave_none(lines, path):
    """They would drown the others."""
    assert lines("GET", path) == []


def test_formatter_writes_a_traceback_into_the_one_line():
    """An exception does not break the form."""
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord(
            "a", logging.ERROR, "", 0, "failed %s", ("here",), (type(error), error, None)
        )

    text = JsonFormatter().format(record)

    assert "\n" not in text
    assert json.loads(text)["message"] == "failed here"
    assert "ValueError: two\nlines" in json.loads(text)["traceback"]


def test_logging_config_writes_everything_as_json_to_stdout():
    """Gunicorn's own lines too; its access lines not, since ours say more.

    In an interpreter of its own: `dictConfig` closes the handlers of others, absl's with pytest's own stream.
    """
    code = """
import logging.config
from service.watching.logs import logging_config
logging.config.dictConfig(logging_config())
logging.getLogger("gunicorn.error").info("booting")
logging.getLogger("gunicorn.access").info("GET /")
logging.getLogger("service.models.registry").info("loaded", extra={"fields": {"model": "tiny"}})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    written = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["logger"], line["message"]) for line in written] == [
        ("gunicorn.error", "booting"),
        ("service.models.registry", "loaded"),
    ]
    assert written[1]["model"] == "tiny"
    assert result.stderr == ""


def test_what_python_prints_is_logged():
    """Warnings, and exceptions of threads and destructors, would stand between the lines as text."""
    code = """
import logging.config, threading, warnings
from service.watching.logs import log_faults, logging_config
logging.config.dictConfig(logging_config())
log_faults()
warnings.warn("overflow", RuntimeWarning)
thread = threading.Thread(target=lambda: 1 / 0, name="poll")
thread.start()
thread.join()

class Broken:
    def __del__(self):
        raise ValueError("late")

Broken()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    warning, thread, destructor = (json.loads(line) for line in result.stdout.splitlines())
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert "RuntimeWarning: overflow" in warning["message"]
    assert thread["message"] == "thread poll failed"
    assert "ZeroDivisionError" in thread["traceback"]
    assert "Broken.__del__" in destructor["message"]
    assert "ValueError: late" in destructor["traceback"]
    assert result.stderr == ""
