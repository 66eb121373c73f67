"""Refused requests: metrics, and a list of the last ones with advice, without secrets."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from proxy.observe.log import REQUEST_ID, redact
from proxy.observe.metrics import HTTP_REJECTED, Bound
from proxy.oci.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    RangeInvalid,
    RegistryError,
    RegistryUnknown,
    TooManyRequests,
    Unauthorized,
    Unsupported,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.oci.reference import Digest
from proxy.oci.request import Operation
from proxy.oci.scope import Scope
from proxy.routing.access import AccessDenied
from proxy.routing.table import Route, Target
from proxy.server.clients.checks import NoTokens
from proxy.server.listener.framing import BodyTooLarge, HeadersTooLarge, Malformed, TargetTooLong
from proxy.server.listener.held_bodies import Overloaded
from proxy.server.record import RequestRecord
from proxy.upstream.errors import CredentialUnreadable, LocalLimit, RealmUntrusted, TlsFailed
from proxy.upstream.offline import CacheUnreadable, NotCached

_MISSING = "Run Explain and check that the image exists upstream under the rewritten name."

ADVICE: tuple[tuple[type[RegistryError], str], ...] = (
    (AccessDenied, "If the client may pull it, change the access rules."),
    (
        RealmUntrusted,
        "If the token server is correct, add the line that the reason quotes; else contact the registry's operator.",
    ),
    (
        Denied,
        "Check the credential and the rewritten repository: explain the image, run scope-proxy doctor.",
    ),
    (RegistryUnknown, "Add the registry under registries, or remove it from the nodes' mirrors."),
    (Unauthorized, "The client's credential is wrong: check it, and clients of the listener."),
    (NotCached, "Import a bundle that has the image: scope-proxy cache import."),
    (NameUnknown, _MISSING),
    (ManifestUnknown, _MISSING),
    (BlobUnknown, _MISSING),
    (Overloaded, "Clients exceed the limits of scope-proxy: find out which clients, or raise limits."),
    (
        LocalLimit,
        "A limit of scope-proxy or its machine is reached, such as maxConnections: raise it, or find the client.",
    ),
    (TooManyRequests, "The registry limits requests: wait, use a credential with a higher limit, or raise tagAge."),
    (UpstreamTimeout, "The registry or its token server is slow: check its endpoints, run scope-proxy doctor."),
    (
        CredentialUnreadable,
        "No request was sent: fix the credential that the reason names, then run scope-proxy check.",
    ),
    (NoTokens, "Write a key to the listener's tokenKeyFile; it is loaded within a second."),
    (CacheUnreadable, "Check the disk of the cache and the log; run scope-proxy check."),
    (TlsFailed, "Check the registry's certificate and its tls settings under hosts: run scope-proxy doctor."),
    (
        UpstreamUnavailable,
        "The registry or its token server fails: check the reason and the endpoints, run scope-proxy doctor.",
    ),
    (UpstreamInvalid, "The endpoint sends something else, such as a login page or a corrupt file: check its URL."),
    (RangeInvalid, "Nothing: the client requested bytes beyond the end of the blob and starts again."),
    (Unsupported, "Usually nothing: scope-proxy serves only pulls, no push or delete."),
    (NameInvalid, "The request is not a pull: check which address the client uses."),
    (DigestInvalid, "The digest is malformed: check the image name."),
    (RegistryError, "A bug in scope-proxy: search the log for the request id."),
)
"""Subclasses before their bases."""
CUT_ADVICE = "The client retries. If it happens again, search the log for the request id; check disk and upstream."
"""Advice for an aborted response."""


def advice(error: RegistryError) -> str:
    """Advice for an error."""
    return next(text for kind, text in ADVICE if isinstance(error, kind))


TEXT_LIMIT = 300
"""Maximum characters of one text."""

_ELLIPSIS = "..."


def sanitize(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text on one line, redacted and shortened; replaces unprintable characters (controls, bidi marks) by ?."""
    safe = "".join(character if character.isprintable() else "?" for character in text[: 4 * limit])
    safe = redact(safe)
    return safe if len(safe) <= limit else safe[: limit - len(_ELLIPSIS)] + _ELLIPSIS


_REASONS: tuple[tuple[type[RegistryError], str], ...] = (
    (BodyTooLarge, "too_large"),
    (HeadersTooLarge, "too_large"),
    (TargetTooLong, "too_large"),
    (Malformed, "malformed"),
    (NameInvalid, "bad_name"),
    (DigestInvalid, "bad_digest"),
    (RegistryUnknown, "bad_ns"),
    (Unsupported, "method"),
    (Unauthorized, "auth"),
    (AccessDenied, "access"),
    (Overloaded, "overload"),
)
"""Errors that scope-proxy itself raises; subclasses before their bases."""
REJECTIONS = tuple(dict.fromkeys(reason for _, reason in _REASONS))
"""All label values."""

_REJECTED = Bound(HTTP_REJECTED)


def rejection_reason(error: RegistryError) -> str | None:
    """Why scope-proxy rejects a request, one of `REJECTIONS`; None for an error that is not its own."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)


def count_rejection(error: RegistryError) -> None:
    """Count an error if it is one of `_REASONS`."""
    reason = rejection_reason(error)
    if reason is not None:
        _REJECTED[reason,].inc()


KEPT = 50
"""Maximum refusals in memory; the oldest is dropped first."""

CUT = "CUT"
"""Code of a response that was aborted after a successful status."""
_PROBED = (Operation.TAGS, Operation.REFERRERS)
"""Lists that clients probe for: 404 is a normal response."""
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response to a node; repeated ones are counted. Times are seconds since the epoch."""

    at: float
    first_at: float
    times: int
    request_id: str
    method: str
    operation: str
    image: str
    """Requested `registry/repository:tag` or `@digest`; the path if it names no image, empty if malformed."""
    explainable: bool
    """Whether *Explain* accepts `image`."""
    upstream: str
    """The matching entry of `registries`."""
    url: str
    """The upstream URL of the request."""
    rule: str
    scope: str
    status: int
    code: str
    reason: str
    advice: str
    client: str
    """The client's name, if the listener authenticates clients."""
    address: str


_Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class _ErrorFields:
    """The fields of a `Refusal` that come from the error itself."""

    status: int
    code: str
    reason: str
    advice: str
    url: str = ""
    scope: str = ""


class Refusals:
    """The last refusals of one process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, Refusal] = OrderedDict()

    def note(self, error: RegistryError, record: RequestRecord) -> None:
        """Keep an error response, unless it is a normal step of a pull."""
        if _is_usual(error, record):
            return
        url, scope = error.detail.get("upstream", ""), error.detail.get("scope", "")
        refusal = _refusal(record, _ErrorFields(error.status, error.code, error.reason, advice(error), url, scope))
        if _is_scan(error, refusal):  # one entry for all paths
            refusal = replace(refusal, image="", explainable=False)
        self._keep(refusal)

    def note_cut(self, record: RequestRecord) -> None:
        """Keep an aborted response, unless the client closed the connection."""
        if record.aborted not in ("", "client_gone"):
            reason = record.error or f"response aborted: {record.aborted}"
            self._keep(_refusal(record, _ErrorFields(record.status, CUT, reason, CUT_ADVICE)))

    def newest(self) -> tuple[Refusal, ...]:
        """The kept refusals, newest first."""
        return tuple(reversed(self._kept.values()))

    def _keep(self, refusal: Refusal) -> None:
        key = refusal.image, refusal.status, refusal.code
        before = self._kept.pop(key, None)
        if before is not None:
            refusal = replace(refusal, first_at=before.first_at, times=before.times + 1)
        self._kept[key] = refusal
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _is_scan(error: RegistryError, refusal: Refusal) -> bool:
    """Whether a client can cause any number of such errors, each with another path."""
    names_none = isinstance(error, NameInvalid | DigestInvalid) and not refusal.explainable
    return names_none or isinstance(error, Malformed | Overloaded)


def _is_usual(error: RegistryError, record: RequestRecord) -> bool:
    """Whether every healthy client gets such an error: the first challenge, a missing list."""
    if isinstance(error, Unauthorized):
        return not record.has_login
    return error.status == _NOT_FOUND and (record.operation in _PROBED or isinstance(error, NameUnknown))


def _refusal(record: RequestRecord, error: _ErrorFields) -> Refusal:
    now = time.time()
    image, explainable = _image(record)
    target = target_of(record.route, error.url)
    return Refusal(
        at=now,
        first_at=now,
        times=1,
        request_id=REQUEST_ID.get(),
        method=sanitize(record.method),
        operation=record.operation,
        image=sanitize(image),
        explainable=explainable,
        upstream=sanitize(record.upstream),
        url=sanitize(error.url),
        rule=sanitize(target.rewriting.note) if target is not None else "",
        scope=sanitize(error.scope or (str(Scope.pull(target.repository)) if target is not None else "")),
        status=error.status,
        code=error.code,
        reason=sanitize(error.reason),
        advice=error.advice,
        client=sanitize(record.user),
        address=sanitize(record.client),
    )


def target_of(route: Route | None, url: str) -> Target | None:
    """The target that a URL belongs to, else the first target of the route."""
    if route is None or not route.targets:
        return None
    fitting = (target for target in route.targets if url.startswith(target.url("")))
    return next(fitting, route.targets[0])


def _image(record: RequestRecord) -> tuple[str, bool]:
    """The requested image as written on a command line, and whether it is an image name."""
    pull = record.pull
    if pull is None or not pull.name:
        return ("" if record.path == "-" else record.path), False
    registry, repository = record.registry or pull.namespace or "", record.repository or pull.name
    name = f"{registry}/{repository}" if registry else repository
    if pull.reference is not None:
        name += f"@{pull.reference}" if isinstance(pull.reference, Digest) else f":{pull.reference}"
    return name, registry != ""
