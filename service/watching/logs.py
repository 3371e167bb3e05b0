"""JSON lines on stdout, the format of every log record; `pending` writes the line of each request."""

import datetime
import functools
import logging
import sys
import threading
from typing import Any

import orjson

from service.watching import stdout

_faults = logging.getLogger("service.faults")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, extra fields and a traceback.

    A record for several requests becomes a line for each.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines, without the last line feed."""
        line = {
            "time": to_text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        fields = getattr(record, "fields", {})
        return "\n".join(_dump(line | each) for each in (fields if isinstance(fields, list) else [fields]))


class StdoutHandler(logging.Handler):
    """Writes records to stdout, and never waits for its reader."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            stdout.writer.write(self.format(record).encode() + b"\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait a moment for everything to be written."""
        stdout.writer.flush()


def log_faults() -> None:
    """Log what Python itself would print to stderr, between the lines of the log.

    That is warnings, and exceptions that nobody handles: in threads, and in destructors.
    """
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread_fault
    sys.unraisablehook = _log_unraisable


def _log_thread_fault(fault: threading.ExceptHookArgs) -> None:
    name = fault.thread.name if fault.thread else "unknown"
    _faults.error("thread %s failed", name, exc_info=fault.exc_value)


def _log_unraisable(fault: "sys.UnraisableHookArgs") -> None:
    _faults.error("%s: %r", fault.err_msg or "exception ignored in", fault.object, exc_info=fault.exc_value)


def to_text(moment: float) -> str:
    """Format seconds since 1970 as in RFC 3339, in UTC and to the millisecond."""
    whole, thousandths = divmod(int(moment * 1000), 1000)
    return f"{_second(whole)}.{thousandths:03}Z"


@functools.lru_cache(maxsize=4)
def _second(moment: int) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _dump(line: dict[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def logging_config() -> dict[str, Any]:
    """Return the `logconfig_dict` for gunicorn with which every logger writes JSON to stdout."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stdout": {"()": StdoutHandler, "formatter": "json"}},
        "root": {"level": "INFO", "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
            # `Pending` writes the line of each request.
            "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }
