"""Every error that a client can receive: its code, its HTTP status, its reason in one line."""

import json
from collections.abc import Mapping
from typing import ClassVar, Self

REASON_LIMIT = 160
"""Longest HTTP reason phrase; containerd prints it in its error text."""


class RegistryError(Exception):
    """An error of the distribution specification, sent as JSON and, shortened, as the reason phrase.

    `detail` says what was requested, from which upstream, with which scope and what to do; it never holds a secret.
    `retry_after` is in seconds.
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500

    def __init__(
        self, reason: str, *, detail: Mapping[str, str] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = dict(detail or {})
        self.retry_after = retry_after

    def copy(self) -> Self:
        """A copy: an error that is cached and raised again would grow its traceback each time."""
        return type(self)(self.reason, detail=self.detail, retry_after=self.retry_after)

    def about(self, detail: Mapping[str, str]) -> Self:
        """A copy with some of its detail replaced, for a client that shares it but sent another request."""
        return type(self)(self.reason, detail={**self.detail, **detail}, retry_after=self.retry_after)

    @property
    def reason_phrase(self) -> str:
        """The reason as an HTTP reason phrase: printable ASCII, at most 160 characters."""
        plain = "".join(character if " " <= character <= "~" else "?" for character in self.reason)
        return plain if len(plain) <= REASON_LIMIT else plain[: REASON_LIMIT - 3] + "..."

    def body(self, request_id: str) -> bytes:
        """The error as the specification's JSON."""
        detail = {**self.detail, "requestId": request_id}
        return json.dumps({"errors": [{"code": self.code, "message": self.reason, "detail": detail}]}).encode()


class NameInvalid(RegistryError):
    """The path, `ns`, repository or tag is malformed."""

    code, status = "NAME_INVALID", 400


class DigestInvalid(RegistryError):
    """The digest is malformed or of an unsupported algorithm."""

    code, status = "DIGEST_INVALID", 400


class NameUnknown(RegistryError):
    """The upstream has no such repository."""

    code, status = "NAME_UNKNOWN", 404


class ManifestUnknown(RegistryError):
    """No endpoint has the manifest."""

    code, status = "MANIFEST_UNKNOWN", 404


class BlobUnknown(RegistryError):
    """No endpoint has the blob, or the digest is that of a manifest."""

    code, status = "BLOB_UNKNOWN", 404


class RegistryUnknown(RegistryError):
    """The request names no configured registry; 403, since a 404 would send containerd to the registry itself."""

    code, status = "DENIED", 403


class Denied(RegistryError):
    """The upstream refused our credentials, or the client may not pull."""

    code, status = "DENIED", 403


class Unauthorized(RegistryError):
    """The listener requires authentication and the client has not authenticated; never for upstream errors.

    `challenge` is the value of WWW-Authenticate.
    """

    code, status = "UNAUTHORIZED", 401

    def __init__(self, reason: str, *, challenge: str, detail: Mapping[str, str] | None = None) -> None:
        super().__init__(reason, detail=detail)
        self.challenge = challenge


class RangeInvalid(RegistryError):
    """The requested range is outside the blob of `size` bytes."""

    code, status = "RANGE_INVALID", 416

    def __init__(self, reason: str, *, size: int | None) -> None:
        super().__init__(reason)
        self.size = size


class Unsupported(RegistryError):
    """The request is not a pull."""

    code, status = "UNSUPPORTED", 405


class TooManyRequests(RegistryError):
    """An upstream's 429 that outlasted the budget, or a local limit; not a 429, which containerd re-sends at once."""

    code, status = "TOOMANYREQUESTS", 503


class UpstreamUnavailable(RegistryError):
    """All endpoints failed, or the token server failed."""

    code, status = "UNAVAILABLE", 503


class UpstreamTimeout(UpstreamUnavailable):
    """No endpoint responded within the budget."""

    status = 504


class UpstreamInvalid(RegistryError):
    """The upstream sent something other than the requested manifest."""

    code, status = "MANIFEST_INVALID", 502


class UpstreamDigestInvalid(UpstreamInvalid):
    """The upstream sent content that does not match the requested digest."""

    code = "DIGEST_INVALID"


ALL_ERRORS: tuple[type[RegistryError], ...] = (
    NameInvalid,
    DigestInvalid,
    NameUnknown,
    ManifestUnknown,
    BlobUnknown,
    RegistryUnknown,
    Denied,
    Unauthorized,
    RangeInvalid,
    Unsupported,
    TooManyRequests,
    UpstreamUnavailable,
    UpstreamTimeout,
    UpstreamInvalid,
    UpstreamDigestInvalid,
    RegistryError,
)
"""All error classes, for the documentation and its test."""
