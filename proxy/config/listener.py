"""Listeners, their clients, and access rules."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool

from proxy.config.base import Duration, Model, Restart, Wait, as_list, exact_origin, listen_address


class AccessRule(Model):
    """Allows or denies a pull; the first rule that matches the registry, repository and client decides."""

    action: Literal["allow", "deny"]
    """Whether the rule allows or denies the pull."""
    registries: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("*",)
    """Names of registries; `*` matches any text."""
    repositories: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("**",)
    """Repositories as nodes request them: `*` matches one segment, `**` any number of segments. `deny` also applies to
    the upstream name and to other names of the same repository."""
    clients: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("*",)
    """Names of clients: the user, the name in the certificate, or `anonymous`; `*` matches any text."""


ClientAuth = Literal["none", "basic", "certificate", "upstream"]


def _external_url(value: str | None) -> str | None:
    return None if value is None else exact_origin(value)


class Clients(Model):
    """Who may pull from a listener."""

    auth: Annotated[
        tuple[ClientAuth, ...], BeforeValidator(as_list), Field(min_length=1), Restart(word="certificate")
    ] = ("none",)
    """`none`: everybody who can reach the listener; credentials of clients are ignored. `basic`: users of an htpasswd
    file. `certificate`: client certificates signed by `clientCaFile` of the listener. `[certificate, basic]`: either.
    `upstream`: clients whose own credential the upstream accepts."""
    allow_anonymous: StrictBool = False
    """With `none`: required to listen on other addresses than loopback if credentials are configured, because everybody
    who can reach the address pulls with them. With `upstream`: a client without a credential gets 401 only if the
    upstream does not serve it without one."""
    htpasswd_file: str | None = None
    """File with the users for `basic` and their bcrypt hashes, as `htpasswd -B` writes it; read again when it changes.
    An invalid line is ignored. While the file is missing or has no valid user, every login fails."""
    subjects: tuple[str, ...] = ()
    """For `certificate`: names of certificates that may pull, either the common name, or `DNS:`, `URI:` or `email:` and
    a subject alternative name; `*` matches any text. If empty, every certificate of the CA may pull."""
    challenge: Literal["basic", "bearer"] = "basic"
    """For `upstream`: `basic` requires user and password with every request, `bearer` a token from `/token`."""
    external_url: Annotated[str | None, AfterValidator(_external_url), Field(alias="externalURL")] = None
    """`https://host[:port]` at which clients reach this listener and its `/token`; never derived from a request."""
    token_key_file: str | None = None
    """File with one key per line: the first encrypts tokens, all decrypt them. All replicas need the same file. It is
    read again when it changes. Without a valid key, all tokens are rejected and none is issued."""
    token_life: Wait = 12 * 3600.0
    """Lifetime of a token; containerd 1.6 never renews a token during a pull."""
    proof_age: Annotated[Duration, Field(gt=0, le=60)] = 60.0
    """Time for which the upstream's confirmation that a client may pull a repository is valid, at most one minute."""
    when_unreachable: Literal["deny", "lastProof"] = "deny"
    """What a client of `upstream` gets from the cache while the upstream is unavailable. `deny`: nothing. `lastProof`:
    repositories that the upstream has allowed this client within `lastProofAge`."""
    last_proof_age: Wait = 24 * 3600.0
    """Maximum age of that last confirmation."""

    @property
    def asks_upstream(self) -> bool:
        """Whether clients pull with their own credentials."""
        return "upstream" in self.auth


class ListenerTls(Model):
    """The certificate of a listener; new connections use changed files."""

    cert_file: str
    """Certificate chain in PEM, the listener's own certificate first."""
    key_file: str
    """Private key of the certificate in PEM, without a password."""
    client_ca_file: str | None = None
    """CA certificates in PEM to verify client certificates; may be an intermediate's."""


class Listener(Model):
    """An address on which nodes pull."""

    address: Annotated[str, AfterValidator(listen_address), Restart()]
    """`host:port`."""
    tls: Annotated[ListenerTls | None, Restart()] = None
    """Certificate for HTTPS; without it, the listener uses plain HTTP."""
    clients: Clients = Clients()
    """Who may pull from this listener."""
