"""Log format, and the context of one request that every line of it carries."""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Final

from pythonjsonlogger.json import JsonFormatter

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="-")
"""Id of the request that is being answered; also in error bodies and on upstream requests."""

_CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=:-]{8,}")
_URL_USER = re.compile(r"(https?://)[^\s/?#'\"]+@")
_URL_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")


def redact(text: str) -> str:
    """The text without what follows `Bearer` or `Basic`, and without users and queries of URLs (signatures)."""
    text = _URL_USER.sub(r"\1<redacted>@", _CREDENTIALS.sub(r"\1 <redacted>", text))
    return _URL_QUERY.sub(r"\1?<redacted>", text)


class _RequestContext(logging.Filter):
    """Adds the request id, and keeps secrets out of messages and tracebacks that libraries write."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
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


def set_up_logging(level: str, style: str) -> None:
    """Write to standard error: one JSON object a line, or with `text` one line for people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestContext())
    if style == "json":
        fields = {"asctime": "time", "levelname": "level", "request_id": "requestId"}
        handler.setFormatter(
            JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s", rename_fields=fields)
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(request_id)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # its debug lines say nothing about pulls
