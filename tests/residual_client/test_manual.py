"""docs/client.md is a promise: its programs and commands run, in order, and its tables match the code."""

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import residual_client
from detector import ModelStore
from residual_client import Client, ClientError
from residual_client.__main__ import main
from tests.gunicorn_server import GunicornServer
from tests.model_folder import publish_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r"^(residual .*)$", PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the page names, and the ready-made model."""
    place = tmp_path_factory.mktemp("manual")
    (place / "models").mkdir()
    (place / "models" / "digits").symlink_to(ROOT / "models" / "digits")
    publish_model(ModelStore(place / "models"), "tiny")
    np.save(place / "digits.npy", load_digits().images[:50])
    (place / "readings.csv").write_text("when,c,a,b\n10:15,30,1,2\n10:20,0.5,1,2\n")
    return place


@pytest.fixture(scope="module")
def server(place, tmp_path_factory, arguments):
    """The service, `digits` its default model."""
    log = tmp_path_factory.mktemp("log") / "log"
    server = GunicornServer(ModelStore(place / "models"), log, arguments, default_model="digits")
    yield server
    server.stop()


@pytest.mark.parametrize("program", PROGRAMS, ids=["first", "frame", "coroutines"])
def test_programs_run(server, place, program):
    """The programs run in a fresh interpreter."""
    program = program.replace("http://127.0.0.1:8000", server.url)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"]

    finished = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr + server.lines()
    assert finished.stdout


def test_commands_run(server, place, monkeypatch, capsys):
    """The commands run in order, and the first two write the same bytes."""
    monkeypatch.chdir(place)
    written = []
    for command in COMMANDS:
        arguments = shlex.split(command.replace("http://127.0.0.1:8000", server.url))[1:]
        assert main(arguments) == 0, capsys.readouterr().err
        written.append(Path("scores.csv").read_bytes())

    assert len(COMMANDS) == 6
    assert written[0] == written[1]
    assert "0,10:15,300.0,225" in capsys.readouterr().out


def test_tables_name_what_there_is():
    """The tables have every method and every class of error."""
    methods = set(re.findall(r"`(\w+)\(", PAGE[PAGE.index("| method |") : PAGE.index("Figures have")]))
    errors = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("| class of") : PAGE.index("All are `ClientError`")]))

    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert methods == public - {"close"}
    named = {name for name in residual_client.__all__ if _is_error(getattr(residual_client, name))}
    assert errors - {"timeout", "retry_after", "residual_client"} == named - {"ClientError", "Problem"}


def _is_error(thing):
    return isinstance(thing, type) and issubclass(thing, ClientError)
