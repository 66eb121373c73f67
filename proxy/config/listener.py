"""What nodes talk to, and who may pull what from it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool

from proxy.config.base import Duration, Model, Restart, Wait, as_list, exact_origin, listen_address


class AccessRule(Model):
    """Which clients may, or may not, pull which repositories; the first rule that matches decides."""

    action: Literal["allow", "deny"]
    """What the rule does."""
    registries: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("*",)
    """Registries that it is for; `*` stands for any part of a name."""
    repositories: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("**",)
    """Repositories as nodes ask for them: `*` stands for one segment and `**` for any number. `deny` looks at the name
    upstream as well, so that no other name leads there."""
    clients: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("*",)
    """Names of clients: user, or subject of the certificate; `anonymous` for one without; `*` stands for any part."""


ClientAuth = Literal["none", "basic", "certificate", "upstream"]


def _external_url(value: str | None) -> str | None:
    return None if value is None else exact_origin(value)


class Clients(Model):
    """Who may pull from a listener."""

    auth: Annotated[
        tuple[ClientAuth, ...], BeforeValidator(as_list), Field(min_length=1), Restart(word="certificate")
    ] = ("none",)
    """`none`: everybody who reaches the listener; credentials that clients send are dropped unread. `basic`: users of
    an htpasswd file. `certificate`: client certificates of the listener's `tls.clientCaFile`. `[certificate, basic]`:
    either. `upstream`: the client's own credential, which the upstream judges."""
    allow_anonymous: StrictBool = False
    """With `none`, needed to listen beyond loopback while credentials are configured: whoever reaches the address uses
    them. With `upstream`, clients that send no credential are not asked for one while the upstream serves them."""
    htpasswd_file: str | None = None
    """Users and bcrypt hashes for `basic`, as `htpasswd -B` writes them; read again when it changes. A bad line counts
    for nobody; a file that is gone or names nobody lets nobody in."""
    subjects: tuple[str, ...] = ()
    """Names of certificates that may pull, for `certificate`: the common name, or `DNS:`, `URI:` or `email:` and an
    alternative name; `*` stands for any part of a name. None means every certificate of the CA."""
    challenge: Literal["basic", "bearer"] = "basic"
    """How clients of `upstream` are asked: for their password with each request, or for a token of `/token`."""
    external_url: Annotated[str | None, AfterValidator(_external_url), Field(alias="externalURL")] = None
    """`https://host[:port]` by which clients reach this listener: where they get tokens; never taken from a request."""
    token_key_file: str | None = None
    """File with the keys, one a line, that seal tokens: the first seals, all open. Workers and replicas share it. It is
    read again when it changes; without a key no token is good, and none is given out."""
    token_life: Wait = 12 * 3600.0
    """How long a token is good for; older containerd never renews one in a pull."""
    proof_age: Annotated[Duration, Field(gt=0, le=60)] = 60.0
    """For how long the upstream's yes to a client's right to a repository holds, at the most a minute."""
    when_unreachable: Literal["deny", "lastProof"] = "deny"
    """What a client of `upstream` gets from the cache while the upstream cannot be asked: nothing, or what the upstream
    last allowed."""
    last_proof_age: Wait = 24 * 3600.0
    """How old that last proof may be."""

    @property
    def asks_upstream(self) -> bool:
        """Whether clients pull with their own credentials."""
        return "upstream" in self.auth


class ListenerTls(Model):
    """The certificate that a listener shows; changed files are used for the next connection."""

    cert_file: str
    """Certificate chain in PEM."""
    key_file: str
    """Its key in PEM."""
    client_ca_file: str | None = None
    """CA certificates in PEM whose client certificates are accepted; an intermediate's will do."""


class Listener(Model):
    """An address that nodes talk to."""

    address: Annotated[str, AfterValidator(listen_address), Restart()]
    """`host:port`."""
    tls: Annotated[ListenerTls | None, Restart()] = None
    """Serve HTTPS."""
    clients: Clients = Clients()
    """Who may pull."""
