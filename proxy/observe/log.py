"""Log format, and what log lines of a request carry: its id, and the endpoint that was contacted last for it."""

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from typing import Final

from pythonjsonlogger.json import JsonFormatter

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="-")
"""Id of the request in progress; also sent in error bodies and upstream requests."""

ACCESS: Final = "proxy.access"
"""The logger that writes one line for each request."""

ACCESS_LEVELS: Final = {
    "all": logging.INFO,
    "errors": logging.INFO + 1,
    "denied": logging.INFO + 2,
    "none": logging.INFO + 3,
}
"""The lowest rank of a request that each value of `log.access` logs: a level of the access logger.

A request has the rank `all`, `errors` if it failed, or `denied`; its line always has the level INFO.
"""

_CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=:-]{8,}")
_URL_USER = re.compile(r"(https?://)[^\s/?#'\"]+@")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9._~:/@+*,-]+")
_IN_MESSAGE = ("method", "status")
_URL_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")


class LastEndpoint:
    """The URL of the endpoint that scope-proxy contacted last for a client's request; empty if it contacted none.

    Tasks that the request starts share it.
    """

    __slots__ = ("url",)

    def __init__(self) -> None:
        self.url = ""


_LAST_ENDPOINT: Final[ContextVar[LastEndpoint | None]] = ContextVar("last_endpoint", default=None)


def track_endpoint() -> LastEndpoint:
    """Begin a client's request, in this context and in those of the tasks that it starts."""
    current = LastEndpoint()
    _LAST_ENDPOINT.set(current)
    return current


def note_endpoint(url: str) -> None:
    """Note that a request is about to be sent to this endpoint."""
    current = _LAST_ENDPOINT.get()
    if current is not None:
        current.url = url


def redact(text: str) -> str:
    """Remove the credentials after `Bearer` or `Basic`, and users and queries (signatures) of URLs."""
    text = _CREDENTIALS.sub(r"\1 <redacted>", text)
    if "://" not in text:
        return text
    return _URL_QUERY.sub(r"\1?<redacted>", _URL_USER.sub(r"\1<redacted>@", text))


def _request_line(method: str, path: str) -> str:
    """Method and path, redacted; skips the slow search for secrets if the path cannot hold any."""
    text = f"{method} {path}"
    is_plain = method in ("GET", "HEAD") and "://" not in path and len(path.split(None, 1)) == 1
    return text if is_plain else redact(text)


class AccessRecord(logging.LogRecord):
    """The access log record of a request: without source location, and cheap to create and to format."""

    fields: dict[str, str | int | float]
    """The fields of the line besides its message, in this order."""

    def __init__(self, method: str, path: str, status: int, fields: dict[str, str | int | float]) -> None:
        created = time.time()
        message = f"{_request_line(method, path)} {status}"
        own = {"msg": message, "created": created, "msecs": float(int(created % 1 * 1000)), "fields": fields}
        self.__dict__ = {**_BLANK, **own}


_BLANK = vars(logging.LogRecord(ACCESS, logging.INFO, "", 0, "", None, None))


class _RequestContext(logging.Filter):
    """Adds the request id, and redacts messages and tracebacks, including those of libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        if isinstance(record, AccessRecord):
            return True
        record.msg, record.args = redact(_message(record)), None
        if record.exc_info and record.exc_text is None:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        record.exc_info = None  # a formatter could use it instead of the text
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def _message(record: logging.LogRecord) -> str:
    """The message; its format string if the arguments do not fit: an exception here would fail the caller."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


class _Clock(logging.Formatter):
    """Formats times as `logging` does, but formats each second only once."""

    _second = -1
    _formatted = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - its name
        """Date, time and milliseconds."""
        second = int(record.created)
        if second != self._second:
            self._formatted, self._second = time.strftime(self.default_time_format, time.localtime(second)), second
        return f"{self._formatted},{int(record.msecs):03d}"


class _Text(_Clock):
    """One line for people; control characters are escaped, so clients cannot add lines or terminal sequences."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name
        """The line without a traceback."""
        record.message = _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], record.message)
        line = super().formatMessage(record)
        return line if not isinstance(record, AccessRecord) else f"{line}{_pairs(record.fields)}"


def _pairs(fields: dict[str, str | int | float]) -> str:
    """The fields that are not empty, as ` name=value`; a value with other characters than a name has is quoted."""
    printed = ((name, str(value)) for name, value in fields.items() if value != "" and name not in _IN_MESSAGE)
    return "".join(
        f" {name}={value if _PLAIN_VALUE.fullmatch(value) else json.dumps(value)}" for name, value in printed
    )


class _Json(_Clock, JsonFormatter):
    """One JSON object per line."""

    _encode = json.JSONEncoder().encode

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
        if not isinstance(record, AccessRecord):
            return super().format(record)
        named = {"time": self.formatTime(record), "level": record.levelname, "name": record.name}
        context = {"message": record.msg, "requestId": REQUEST_ID.get()}
        return self._encode({**named, **context, **record.fields})


def set_up_logging(level: str, style: str, access: str = "all") -> None:
    """Log to standard error: one JSON object per line, or one line for people with the style `text`.

    `access` selects the requests that are logged, a key of `ACCESS_LEVELS`.
    """
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
    ranked = max(root.level, ACCESS_LEVELS[access])
    logging.getLogger(ACCESS).setLevel(logging.NOTSET if access == "all" else ranked)
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # its debug lines say nothing about pulls
