"""JSON lines on stdout: one for each request, and the same format for all other log records."""

import datetime
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from service.http.request_record import RequestRecord

QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})

_access = logging.getLogger("service.access")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, extra fields and a traceback.

    A record for several requests becomes a line for each.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines, without the last line feed."""
        line = {
            "time": _to_text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        fields = getattr(record, "fields", {})
        return "\n".join(_dump(line | each) for each in (fields if isinstance(fields, list) else [fields]))


def _to_text(moment: float) -> str:
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
            # `write_access` writes the line of each request.
            "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }


def write_access(records: Sequence["RequestRecord"]) -> None:
    """Log answered requests as one record for each level; leave out probes and scrapes.

    The path is the template of the route, so that the log holds no names or values from clients.
    """
    logged = [record for record in records if record.template not in QUIET_PATHS]
    for level, chosen in (
        (logging.INFO, [record for record in logged if record.status < 500]),
        (logging.ERROR, [record for record in logged if record.status >= 500]),
    ):
        if chosen and _access.isEnabledFor(level):
            _access.log(level, "request", extra={"fields": list(map(_access_fields, chosen))})


def _access_fields(record: "RequestRecord") -> dict[str, Any]:
    return {
        "time": _to_text(record.ended),
        "path": record.template,
        "status": record.status,
        "problem": record.problem,
        "request_id": record.request_id,
        "method": record.method,
        "duration_seconds": round(record.seconds, 6),
        "model": record.model or None,
        "version": record.version or None,
        "rows": record.rows,
        "client": record.client,
    }
