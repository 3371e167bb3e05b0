"""JSON lines on stdout, the format of every log record; `pending` writes the line of each request."""

import datetime
import functools
import logging
from typing import Any

import orjson


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
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
        },
        "root": {"level": "INFO", "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
            # `Pending` writes the line of each request.
            "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }
