"""What an operator does about an error that nodes get: one sentence for each kind."""

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
from proxy.routing.access import AccessDenied
from proxy.server.clients import NoTokens
from proxy.server.held_bodies import Overloaded
from proxy.upstream.failure import CredentialUnreadable, LocalLimit, RealmUntrusted, TlsFailed

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
