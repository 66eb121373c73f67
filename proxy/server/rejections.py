"""Counting what is refused without asking an upstream."""

from proxy.metrics import HTTP_REJECTED, Bound
from proxy.oci.errors import DigestInvalid, NameInvalid, RegistryError, RegistryUnknown, Unauthorized, Unsupported
from proxy.routing.access import AccessDenied
from proxy.server.framing import BodyTooLarge, HeadersTooLarge, Malformed, TargetTooLong
from proxy.server.held_bodies import Overloaded

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
