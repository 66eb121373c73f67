"""The configuration as frozen values; every setting has its documentation here."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from proxy.config.address import EndpointAddress, Origin, canonical_registry
from proxy.config.base import Duration, Model, Rate, Restart, Size, Wait, as_list, exact_origin, listen_address
from proxy.config.listener import AccessRule, Listener
from proxy.rules.rewrite_rule import RewriteRule

ANY = "*"
"""The entry of `registries` and `hosts` that stands for every name without an entry of its own."""

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _registry_name(value: str) -> str:
    _, scheme, host = value.rpartition("://")
    if scheme and host[:1].isalnum() and "@" not in value:
        raise ValueError(f"a registry or host has no scheme and no path: write {host.partition('/')[0].lower()}")
    if value != ANY and (canonical := canonical_registry(value)) != value:
        raise ValueError(f"write {canonical}: that is how requests name it")
    return value


def _endpoint(value: str) -> str:
    if "://" not in value:
        shown = "..." if "@" in value else value  # a password may stand before an @
        raise ValueError(f"an endpoint needs its scheme: write https://{shown}")
    EndpointAddress.parse(value)
    return value


def _pattern(value: str) -> str:
    RewriteRule.compile(value, "")
    return value


def _collector(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s@/?#]+(?:/[^\s@?#]*)?", value):
        raise ValueError("a collector is http:// or https://, a host, and a path such as /v1/traces")
    return value


def _username(value: str) -> str:
    if ":" in value:
        raise ValueError("a user name cannot hold a colon: HTTP ends the name there")
    return value


def _as_endpoint(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


class Rewrite(Model):
    """One rule: where the pattern matches the repository asked for, the replacement is what is asked upstream."""

    pattern: Annotated[str, AfterValidator(_pattern)]
    """Regular expression in Go's (RE2) syntax; not anchored by itself: write `^` and `$`."""
    replacement: str
    """Go template: `$1`, `${1}`, `${name}`, `$$` for a dollar sign."""


class Endpoint(Model):
    """One base URL of a registry, and what is special about it."""

    url: Annotated[str, AfterValidator(_endpoint)]
    """`https://host[:port]`, or with a path: `/v2/project` is a prefix, any other path replaces `/v2`."""
    scope: Literal["computed", "challenge"] = "computed"
    """`computed`: the scope is the repository asked for; `challenge`: the one repository that the registry's
    challenge names, reduced to `pull` (for registries with virtual paths)."""
    forward_namespace: StrictBool = False
    """Send `?ns=<registry>` on, for endpoints that are mirrors themselves."""
    rewrites: tuple[Rewrite, ...] | None = None
    """Rules of this endpoint in place of the registry's."""

    @property
    def address(self) -> EndpointAddress:
        """The parsed URL."""
        return EndpointAddress.parse(self.url)


class Registry(Model):
    """A registry that nodes name: where it is pulled from, and under which names."""

    endpoints: tuple[Annotated[Endpoint, BeforeValidator(_as_endpoint)], ...] = ()
    """Tried in order; none means the registry itself."""
    rewrites: tuple[Rewrite, ...] = ()
    """Ordered; the first rule that changes the repository wins."""
    node_rewrites: StrictBool = False
    """Nodes rewrite by themselves as well: a repository that already begins with a replacement's literal
    prefix passes unchanged."""


class Credential(Model):
    """One way to log in: a user and password, an identity token, a Docker config file or a credential helper."""

    repositories: str = "**"
    """The upstream repositories it is for: a path in which `*` stands for one segment and `**` for any number."""
    username: Annotated[str, AfterValidator(_username)] | None = None
    """User name."""
    password: SecretStr | None = None
    """Password; better a file or an environment variable."""
    password_file: str | None = None
    """File that holds the password (a trailing newline is not part of it)."""
    password_env: str | None = None
    """Environment variable that holds the password."""
    identity_token: SecretStr | None = None
    """OAuth2 refresh token."""
    identity_token_file: str | None = None
    """File that holds the refresh token."""
    identity_token_env: str | None = None
    """Environment variable that holds the refresh token."""
    docker_config_file: str | None = None
    """A `config.json` or `.dockerconfigjson`; the entry with the longest matching path counts."""
    helper: str | None = None
    """Name of a `docker-credential-<name>` program on the PATH."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        passwords = [self.password, self.password_file, self.password_env]
        tokens = [self.identity_token, self.identity_token_file, self.identity_token_env]
        given = [value is not None for value in (*passwords, *tokens, self.docker_config_file, self.helper)]
        if sum(given) != 1:
            raise ValueError(
                "a credential needs exactly one of password, passwordFile, passwordEnv, identityToken, "
                "identityTokenFile, identityTokenEnv, dockerConfigFile and helper"
            )
        has_password = any(value is not None for value in passwords)
        if has_password != (self.username is not None):
            raise ValueError("username and a password belong together")
        if self.helper is not None and not _HELPER.fullmatch(self.helper):
            raise ValueError("helper is the name after docker-credential-, without a path")
        return self


class Tls(Model):
    """How the certificate of a host is verified (as Go does it), and how we show ours."""

    ca_file: str | None = None
    """CA certificates in PEM, instead of the system's; an intermediate's or the host's own one will do."""
    cert_file: str | None = None
    """Client certificate in PEM."""
    key_file: str | None = None
    """Key of the client certificate in PEM."""
    insecure_skip_verify: StrictBool = False
    """Accept any certificate: everybody on the path can read and change everything."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("certFile and keyFile belong together")
        return self


class Host(Model):
    """How to talk to one endpoint host."""

    credentials: Annotated[tuple[Credential, ...], BeforeValidator(as_list)] = ()
    """One, or a list: the longest `repositories` match is used first, the next one after a refusal."""
    realms: tuple[Annotated[str, AfterValidator(exact_origin)], ...] = ()
    """Origins of token servers that are trusted with the credentials besides the host's own origin."""
    redirects: tuple[Annotated[str, AfterValidator(exact_origin)], ...] = ()
    """Origins that blobs may be redirected to although they are on a private network or loopback."""
    token_method: Literal["auto", "get", "post", "basic"] = "auto"  # noqa: S105 - no password
    """How tokens are asked for: `auto` learns it; `basic` sends the password with every request."""
    tls: Tls = Tls()
    """Certificates."""
    max_connections: Annotated[int, Field(ge=2, le=1000, strict=True)] = 32
    """Requests to the host at one time; a quarter is kept for manifests and tokens."""


class Limits(Model):
    """How much clients may ask of a process at one time."""

    connections: Annotated[int, Field(ge=16, le=100_000, strict=True)] = 4096
    """Connections to all listeners. A further one replaces an idle one of the address that has the most; if none is
    idle, it waits where its address has fewer than others, else it is closed."""
    requests: Annotated[int, Field(ge=8, le=100_000, strict=True)] = 2048
    """Requests being answered, at most seven eighths of the connections; further ones get 503, unless their address has
    fewer than its share."""
    min_read_rate: Rate = 16 << 10
    """Bytes a second that a client has to read while others wait: of a blob that passes through, over
    `timeouts.slowClient`, while they wait for the host (never of content that is cached or being cached); of any
    response, over 2 s, while they wait for a connection and the address of this client has the most."""


class Admin(Model):
    """The operator's own addresses: metrics, health and the status page."""

    address: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:5007"
    """`host:port`; never a node-facing one. Whoever reaches it sees the status page: it belongs on loopback."""
    metrics_address: Annotated[str, AfterValidator(listen_address)] | None = None
    """`host:port` where metrics and health are served as well, and no status page: for the network of Prometheus."""


class Timeouts(Model):
    """How long anything may take."""

    manifest: Wait = 10.0
    """Until the headers of a manifest, tag list or referrers answer; then the node gets 503 or 504."""
    blob: Wait = 15.0
    """Until the headers of a blob answer."""
    connect: Wait = 5.0
    """To connect to an upstream, TLS included."""
    stall: Wait = 15.0
    """Without a byte in the middle of an upstream body, before it is resumed."""
    request: Annotated[Wait, Restart()] = 10.0
    """Until the head of a client's request has come, from its first byte on, or from the connection on for the first
    one; also for TLS handshakes and for the bodies of requests for tokens."""
    client_stall: Annotated[Wait, Restart()] = 300.0
    """Without progress of a client that reads a body, before its connection is cut."""
    slow_client: Annotated[Wait, Restart()] = 60.0
    """Over how long `limits.minReadRate` is measured."""
    shutdown_grace: Annotated[Duration, Restart()] = 30.0
    """For pulls in flight, after SIGTERM; a second signal ends it at once."""
    drain_idle: Annotated[Duration, Restart()] = 3.0
    """How long no request may have come, after SIGTERM, until pulls are taken to be complete: a pull is many."""


class Cache(Model):
    """What is kept on disk, how much of it, and how fresh it is."""

    path: str
    """Folder of the store; it is made where it is missing, and belongs to scope-proxy alone."""
    max_size: Annotated[Size, Field(gt=0)] = 50 << 30
    """Bytes of blobs and manifests that are kept; what was used longest ago goes first."""
    reserve_free: Size = 1 << 30
    """Bytes of the disk that are left free; below that blobs pass through and are not kept."""
    tag_age: Duration = 60.0
    """For how long a tag is taken to be what it was; then one HEAD asks the upstream."""
    stale_if_error: Duration = 7 * 86400.0
    """For how long a tag is served after it was last confirmed, while the upstream is down, rate-limited or slow."""
    stale_after: Wait = 3.0
    """How long a node waits for the upstream to confirm a tag that could be served stale."""
    stale_if_denied: StrictBool = False
    """Serve stale tags also when the upstream answers 401, 403 or 404."""
    negative_age: Duration = 5.0
    """For how long `not found` is remembered."""
    verify: Literal["ingest", "firstRead", "always"] = "firstRead"
    """When the bytes of a stored blob are checked against its digest again: never after they were stored, once in
    each process, or each time."""
    delivery: Literal["stream", "verified"] = "stream"
    """`stream`: bytes go out while they arrive, the tail once the digest is right; `verified`: nothing before."""
    finish_abandoned: StrictBool = True
    """Finish a download that every client has left."""
    max_manifest_digests: Annotated[int, Field(ge=16, le=100_000, strict=True)] = 2000
    """Digests of a manifest that are indexed; one that holds more is served, and the upstream confirms its blobs."""
    min_join_rate: Rate = 64 << 10
    """Bytes a second that a download has to make for clients of other registries to stay with it, where content is
    shared between registries; below that they get a download from their own."""
    fetch_timeout: Wait = 300.0
    """How long a download lives without a byte from the upstream. Its client is told to come again long before that;
    then its request is sent once more."""


class Tracing(Model):
    """Where spans go (OpenTelemetry); needs the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """URL of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the traces that begin here whose spans are sent; a client's own trace is followed as the client says."""


class Log(Model):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is written."""
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""


RegistryName = Annotated[str, AfterValidator(_registry_name)]


class Config(Model):
    """Everything that an operator can set."""

    version: Literal[1]
    """Version of this format."""
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1)] = (Listener(address="127.0.0.1:5000"),)
    """What nodes talk to."""
    admin: Annotated[Admin | None, Restart()] = Admin()
    """Metrics, health and the status page; `null` for none."""
    registries: dict[RegistryName, Registry] = {}  # noqa: RUF012 - pydantic copies defaults
    """One entry per registry that nodes name (containerd's `ns=`)."""
    default_registry: RegistryName | None = None
    """The registry of requests that name none."""
    access: tuple[AccessRule, ...] = ()
    """Which registries and repositories may be pulled, by whom; the first rule that matches decides, and where none
    does nothing may be pulled. No rules: everything that is configured."""
    hosts: dict[RegistryName, Host] = {}  # noqa: RUF012 - as above
    """How to talk to an endpoint, keyed by its `host[:port]`; `"*"` for every host without an entry."""
    docker_config_files: tuple[str, ...] = ()
    """`config.json` or `.dockerconfigjson` files with credentials for any host, asked after `hosts`."""
    cache: Cache | None = None
    """What is kept on disk; without it everything passes through."""
    workers: Annotated[int, Field(ge=1, le=64, strict=True), Restart()] = 1
    """Processes that share the listeners and the cache."""
    timeouts: Timeouts = Timeouts()
    """How long anything may take."""
    limits: Annotated[Limits, Restart()] = Limits()
    """How much clients may ask at one time."""
    tracing: Annotated[Tracing | None, Restart()] = None
    """Spans of requests; without it a client's trace context is still passed on."""
    log: Log = Log()
    """What is written to standard error."""

    @field_validator("default_registry")
    @classmethod
    def _default_is_known(cls, value: str | None, info: ValidationInfo) -> str | None:
        registries = info.data.get("registries")  # missing if it is wrong itself
        if value is not None and registries is not None and value not in registries:
            raise ValueError(f"defaultRegistry {value!r} is not one of the registries")
        return value

    def host(self, origin: Origin) -> Host:
        """The settings of an endpoint's host: the entry `host:port` or `host`, else `"*"`, else the defaults."""
        for key in (f"{origin.authority_host}:{origin.port}", origin.authority, ANY):
            if key in self.hosts:
                return self.hosts[key]
        return Host()
