"""Log format, and the context of one request that every line of it carries."""

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from typing import Final

from pythonjsonlogger.json import JsonFormatter

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="-")
"""Id of the request that is being answered; also in error bodies and on upstream requests."""

ACCESS: Final = "proxy.access"
"""The logger that writes one line for each request."""

_CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=:-]{8,}")
_URL_USER = re.compile(r"(https?://)[^\s/?#'\"]+@")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_URL_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")


def redact(text: str) -> str:
    """The text without what follows `Bearer` or `Basic`, and without users and queries of URLs (signatures)."""
    text = _CREDENTIALS.sub(r"\1 <redacted>", text)
    if "://" not in text:
        return text
    return _URL_QUERY.sub(r"\1?<redacted>", _URL_USER.sub(r"\1<redacted>@", text))


def _asked(method: str, path: str) -> str:
    """Method and path, redacted; what cannot hold a secret is not searched, as there are so many lines of it."""
    text = f"{method} {path}"
    is_plain = method in ("GET", "HEAD") and "://" not in path and len(path.split(None, 1)) == 1
    return text if is_plain else redact(text)


class AccessRecord(logging.LogRecord):
    """The one line of a request: it says nothing of the place in the code, and is quick to make and to write."""

    fields: dict[str, str | int | float]
    """What the line says besides its message, in this order."""

    def __init__(self, method: str, path: str, status: int, fields: dict[str, str | int | float]) -> None:
        created = time.time()
        message = f"{_asked(method, path)} {status}"
        own = {"msg": message, "created": created, "msecs": float(int(created % 1 * 1000)), "fields": fields}
        self.__dict__ = {**_BLANK, **own}


_BLANK = vars(logging.LogRecord(ACCESS, logging.INFO, "", 0, "", None, None))


class _RequestContext(logging.Filter):
    """Adds the request id, and keeps secrets out of messages and tracebacks that libraries write."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        if isinstance(record, AccessRecord):
            return True
        record.msg, record.args = redact(_message(record)), None
        if record.exc_info and record.exc_text is None:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        record.exc_info = None  # a formatter may take it in place of the text
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def _message(record: logging.LogRecord) -> str:
    """The message; its bare text where the arguments do not fit, since a filter that raises would fail the caller."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


class _Clock(logging.Formatter):
    """Writes times as `logging` does, and works each second out only once."""

    _second = -1
    _shown = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - its name
        """Date, time and milliseconds."""
        second = int(record.created)
        if second != self._second:
            self._shown, self._second = time.strftime(self.default_time_format, time.localtime(second)), second
        return f"{self._shown},{int(record.msecs):03d}"


class _Text(_Clock):
    """One line for people: what a client has put into it begins no line of its own and tells a terminal nothing."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name
        """The line without a traceback."""
        record.message = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], record.message)
        return super().formatMessage(record)


class _Json(_Clock, JsonFormatter):
    """One JSON object a line."""

    _encode = json.JSONEncoder().encode

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        if not isinstance(record, AccessRecord):
            return super().format(record)
        named = {"time": self.formatTime(record), "level": record.levelname, "name": record.name}
        context = {"message": record.msg, "requestId": REQUEST_ID.get()}
        return self._encode({**named, **context, **record.fields})


def set_up_logging(level: str, style: str) -> None:
    """Write to standard error: one JSON object a line, or with `text` one line for people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestContext())
    if style == "json":
        fields = {"asctime": "time", "levelname": "level", "request_id": "requestId"}
        handler.setFormatter(
            _Json("%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s", rename_fields=fields)
        )
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)-7s %(request_id)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # its debug lines say nothing about pulls
