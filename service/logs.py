"""JSON lines on stdout: one for each request, and the same form for everything else that is logged."""

import datetime
import json
import logging
from typing import Any

QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})

_access = logging.getLogger("service.access")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what was logged beside it, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line feed."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def logging_config() -> dict[str, Any]:
    """For `logging.config.dictConfig` and gunicorn's `logconfig_dict`: every logger writes JSON to stdout."""
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
            # Each request has its line already, from `write_access`.
            "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }


def write_access(*, path: str, status: int, **fields: Any) -> None:
    """Log one answered request; probes and scrapes are left out.

    Parameters
    ----------
    path : str
        The route template, so that no name or value of a client's stands in the log's index.
    status : int
    **fields
        request_id, method, duration_seconds, model, version, rows, client.
    """
    if path not in QUIET_PATHS:
        level = logging.ERROR if status >= 500 else logging.INFO
        _access.log(level, "request", extra={"fields": {"path": path, "status": status, **fields}})
