"""The access log: one line for each request, with the fields that docs/audit.md describes."""

import functools
import logging
from collections.abc import Iterator

from proxy.observe.log import ACCESS, ACCESS_LEVELS, AccessRecord, redact
from proxy.oci.errors import Denied, RegistryError, Unauthorized
from proxy.oci.request import Operation
from proxy.server.record import DecidingSetting, RequestRecord
from proxy.server.refusals import REJECTIONS, rejection_reason, target_of

REASONS = (*REJECTIONS, "upstream", "rewrite", "loop")
"""All values of `reason`: those of `scope_proxy_http_rejected_total`, and of requests that others denied."""

FIELD_LIMIT = 300
"""Maximum characters of a field."""
PATH_LIMIT = 1100
"""Maximum characters of the path in the message: all of every valid request."""
_CACHED = 512
_ELLIPSIS = "..."
_FAILED = 400

_logger = logging.getLogger(ACCESS)


class RequestLoop(Denied):
    """The request came from this proxy: an endpoint leads back to it."""


def note_error(error: RegistryError, record: RequestRecord) -> None:
    """Note why a request gets an error, and which setting denied it."""
    record.code = error.code
    record.reason = _reason(error, record)
    match record.reason:
        case "auth":
            record.denied_by = record.settings.clients
        case "bad_ns" | "rewrite":
            record.denied_by = record.settings.registries
        case "upstream":
            target = target_of(record.route, error.detail.get("upstream", ""))
            if target is not None:
                record.denied_by = DecidingSetting(f"endpoint {target.endpoint.text}", target.place)


def log_request(record: RequestRecord, seconds: float) -> None:
    """Write the line of a request, if `log.access` selects it."""
    decision = _decision(record)
    rank = "denied" if decision == "denied" else "errors" if record.status >= _FAILED or record.aborted else "all"
    if _logger.isEnabledFor(ACCESS_LEVELS[rank]):
        fields = _fields(record, seconds, decision)
        _logger.handle(AccessRecord(_field(record.method), clean(record.path, PATH_LIMIT), record.status, fields))


def clean(text: str, limit: int) -> str:
    """The text without secrets, shortened to the limit; characters that are not printable are escaped."""
    if len(text) <= limit and text.isprintable() and " " not in text and "://" not in text:
        return text
    safe = redact(text[: 4 * limit])
    if not safe.isprintable():
        safe = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in safe)
    return safe if len(safe) <= limit else safe[: limit - len(_ELLIPSIS)] + _ELLIPSIS


@functools.lru_cache(_CACHED)
def _field(text: str) -> str:
    """The text as a field. Most values of a request are those of an earlier one."""
    return clean(text, FIELD_LIMIT)


def _reason(error: RegistryError, record: RequestRecord) -> str:
    """One of `REASONS`; empty for an error that denies nothing."""
    if record.access is not None and not record.access.allowed and isinstance(error, Denied | Unauthorized):
        return "access"
    rejected = rejection_reason(error)
    if rejected is not None:
        return rejected
    if not isinstance(error, Denied):
        return ""
    if isinstance(error, RequestLoop):
        return "loop"
    if not record.auth:
        return "auth"
    return "rewrite" if record.route is None else "upstream"


def _decision(record: RequestRecord) -> str:
    """`denied`, `challenged`, `allowed`; empty if the request failed before its route was known."""
    if record.code == Unauthorized.code:
        return "denied" if record.has_login else "challenged"
    if record.code == Denied.code:
        return "denied"
    is_known = record.auth and (record.route is not None or record.operation == Operation.PING)
    return "allowed" if is_known else ""


def _fields(record: RequestRecord, seconds: float, decision: str) -> dict[str, str | int | float]:
    pull = record.pull
    registry, repository, reference = record.registry, record.repository, ""
    if pull is not None:
        reference = "" if pull.reference is None else pull.reference.text
        if record.route is None:  # what the client requested, unchecked
            registry, repository = _field(pull.namespace or ""), _field(pull.name)
    fields: dict[str, str | int | float] = {
        "user": _field(record.user),
        "auth": record.auth,
        "method": _field(record.method),
        "operation": record.operation,
        "registry": registry,
        "repository": repository,
        "reference": reference,
        "digest": record.digest,
        "client": record.client,
        "agent": _field(record.agent),
        "decision": decision,
        "cache": record.cache,
        "status": record.status,
        "bytes": record.sent,
        "seconds": round(seconds, 4),
        "error": record.error and _field(record.error),
        "aborted": record.aborted,
        "upstream": record.upstream,
    }
    fields.update((name, _field(value)) for name, value in _occasional(record) if value)
    return fields


def _occasional(record: RequestRecord) -> Iterator[tuple[str, str]]:
    """Fields that most lines do not have."""
    if record.endpoint is not None and record.endpoint.url:
        yield "endpoint", record.endpoint.url
    if record.code:
        yield "code", record.code
        yield "reason", record.reason
    rule = record.denied_by or record.access
    if rule is not None:
        yield "rule", rule.text
        yield "place", rule.place
