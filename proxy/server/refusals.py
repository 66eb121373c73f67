"""Requests that were refused: counted, and the last of them listed with advice, without any secret."""

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

_MISSING = "Look whether it exists upstream under the name that the rules make of it: explain the image."

ADVICE: tuple[tuple[type[RegistryError], str], ...] = (
    (AccessDenied, "If the client is to pull it, change the rules of access."),
    (
        RealmUntrusted,
        "If that token server is the right one, add the line that the reason tells; else ask the registry.",
    ),
    (
        Denied,
        "Look at the credential and at the repository that the rules lead to: explain the image, run the doctor.",
    ),
    (RegistryUnknown, "Add the registry under registries, or take it off the nodes' mirrors."),
    (Unauthorized, "The client's own credential is wrong here: look at it, and at clients of the listener."),
    (NotCached, "Import a bundle that has the image: scope-proxy cache import."),
    (NameUnknown, _MISSING),
    (ManifestUnknown, _MISSING),
    (BlobUnknown, _MISSING),
    (Overloaded, "Clients ask for more than limits allow: find out which, or raise the limits."),
    (LocalLimit, "Clients ask for more than the host gets at one time: find out which, or raise its maxConnections."),
    (TooManyRequests, "The registry limits us: wait, log in with a credential that may ask more, or keep tags longer."),
    (UpstreamTimeout, "The registry, or its token server, is slow: look at its endpoints, run the doctor."),
    (
        CredentialUnreadable,
        "The registry was not asked: mend the credential that the reason names, and run scope-proxy check.",
    ),
    (NoTokens, "Write a key into the listener's tokenKeyFile; it is read again within a second."),
    (CacheUnreadable, "Look at the disk of the cache and at the log; run scope-proxy check."),
    (TlsFailed, "Look at the registry's certificate and at tls of its host under hosts: run the doctor."),
    (
        UpstreamUnavailable,
        "The registry, or its token server, fails: look at the reason and at its endpoints, run the doctor.",
    ),
    (UpstreamInvalid, "What answers at the endpoint sends something else, such as a login page or a broken file."),
    (RangeInvalid, "Nothing: the client asked for bytes beyond the end, and starts anew."),
    (Unsupported, "Nothing, if it was not you: only pulls are served."),
    (NameInvalid, "The client sent something that is no pull: look at the address that it was given."),
    (DigestInvalid, "The client sent something that is no digest: look at the image's name."),
    (RegistryError, "A bug: the log has more under the request id."),
)
"""Subclasses stand before their bases."""
CUT_ADVICE = "The client tries again; if it goes on, look at the log under the request id, and at disk and upstream."
"""What to do about a body that was cut."""


def advice(error: RegistryError) -> str:
    """What to do about an error."""
    return next(text for kind, text in ADVICE if isinstance(error, kind))


SHOWN_LIMIT = 300
"""Characters of one text."""

_ELLIPSIS = "..."


def shown(text: str, limit: int = SHOWN_LIMIT) -> str:
    """The text on one line, without what is not printable (controls, marks that turn the writing direction)."""
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
"""Errors that are ours alone; subclasses stand before their bases."""
REJECTIONS = tuple(dict.fromkeys(reason for _, reason in _REASONS))
"""Every reason."""

_REJECTED = Bound(HTTP_REJECTED)


def count_rejection(error: RegistryError) -> None:
    """Count an error, if it is one of these."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
    if reason is not None:
        _REJECTED[reason,].inc()


KEPT = 50
"""Refusals that are remembered; what came longest ago goes first."""

CUT = "CUT"
"""Stands for the code of a body that was cut in the middle, after a good status."""
_PROBED = (Operation.TAGS, Operation.REFERRERS)
"""Lists that clients ask for to see whether there are any: 404 is a usual answer."""
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a node got; the same one again counts up. Times are seconds since the epoch."""

    at: float
    first_at: float
    times: int
    request_id: str
    method: str
    operation: str
    image: str
    """`registry/repository:tag` or `@digest` as asked; the path where it names no image, empty for no request."""
    explainable: bool
    """Whether `image` can be explained."""
    upstream: str
    """The entry of `registries` that was responsible."""
    url: str
    """What was asked of the upstream."""
    rule: str
    scope: str
    status: int
    code: str
    reason: str
    advice: str
    client: str
    """The client's name, where the listener knows it."""
    address: str


_Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What of an error comes from the error itself."""

    status: int
    code: str
    reason: str
    advice: str
    url: str = ""
    scope: str = ""


class Refusals:
    """What one process remembers."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, Refusal] = OrderedDict()

    def note(self, error: RegistryError, record: RequestRecord) -> None:
        """Remember an error as it is answered; not those that are a normal step of a pull."""
        if _is_usual(error, record):
            return
        url, scope = error.detail.get("upstream", ""), error.detail.get("scope", "")
        made = _refusal(record, _Answer(error.status, error.code, error.reason, advice(error), url, scope))
        if _is_scanned(error, made):  # whatever was sent: one line for all of them
            made = replace(made, image="", explainable=False)
        self._keep(made)

    def note_cut(self, record: RequestRecord) -> None:
        """Remember a body that was cut, unless the client itself went away."""
        if record.aborted not in ("", "client_gone"):
            reason = record.error or f"cut: {record.aborted}"
            self._keep(_refusal(record, _Answer(record.status, CUT, reason, CUT_ADVICE)))

    def newest(self) -> tuple[Refusal, ...]:
        """What is remembered, the newest first."""
        return tuple(reversed(self._kept.values()))

    def _keep(self, refusal: Refusal) -> None:
        key = refusal.image, refusal.status, refusal.code
        before = self._kept.pop(key, None)
        if before is not None:
            refusal = replace(refusal, first_at=before.first_at, times=before.times + 1)
        self._kept[key] = refusal
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _is_scanned(error: RegistryError, made: Refusal) -> bool:
    """Whether anybody can make any number of such errors, each with another path."""
    names_none = isinstance(error, NameInvalid | DigestInvalid) and not made.explainable
    return names_none or isinstance(error, Malformed | Overloaded)


def _is_usual(error: RegistryError, record: RequestRecord) -> bool:
    """Whether every healthy client gets such an error: the first question who it is, a list that is not there."""
    if isinstance(error, Unauthorized):
        return not record.has_login
    return error.status == _NOT_FOUND and (record.operation in _PROBED or isinstance(error, NameUnknown))


def _refusal(record: RequestRecord, answer: _Answer) -> Refusal:
    now = time.time()
    image, explainable = _image(record)
    target = _target(record.decision, answer.url)
    return Refusal(
        at=now,
        first_at=now,
        times=1,
        request_id=REQUEST_ID.get(),
        method=shown(record.method),
        operation=record.operation,
        image=shown(image),
        explainable=explainable,
        upstream=shown(record.upstream),
        url=shown(answer.url),
        rule=shown(target.rewriting.note) if target is not None else "",
        scope=shown(answer.scope or (str(Scope.pull(target.repository)) if target is not None else "")),
        status=answer.status,
        code=answer.code,
        reason=shown(answer.reason),
        advice=answer.advice,
        client=shown(record.user),
        address=shown(record.client),
    )


def _target(route: Route | None, url: str) -> Target | None:
    """The target of a route that a URL belongs to; the first one where it names none."""
    if route is None or not route.targets:
        return None
    fitting = (target for target in route.targets if url.startswith(target.url("")))
    return next(fitting, route.targets[0])


def _image(record: RequestRecord) -> tuple[str, bool]:
    """What the client asked for, as people write it, and whether it is an image's name."""
    asked = record.asked
    if asked is None or not asked.name:
        return ("" if record.path == "-" else record.path), False
    registry, repository = record.registry or asked.namespace or "", record.repository or asked.name
    name = f"{registry}/{repository}" if registry else repository
    if asked.reference is not None:
        name += f"@{asked.reference}" if isinstance(asked.reference, Digest) else f":{asked.reference}"
    return name, registry != ""
