"""The configuration as frozen models; the docstring of a setting is its documentation."""

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
from proxy.config.base import (
    Duration,
    Model,
    Rate,
    Restart,
    Wait,
    as_list,
    exact_origin,
    listen_address,
)
from proxy.config.cache import Cache
from proxy.config.listener import AccessRule, Listener
from proxy.rules.rewrite_rule import RewriteRule

ANY = "*"
"""The entry of `registries` and `hosts` for every name without its own entry."""

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
        written = "..." if "@" in value else value  # a password may stand before an @
        raise ValueError(f"an endpoint needs its scheme: write https://{written}")
    EndpointAddress.parse(value)
    return value


def _pattern(value: str) -> str:
    RewriteRule.compile(value, "")
    return value


def _collector(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s@/?#]+(?:/[^\s@?#]*)?", value):
        raise ValueError("the endpoint of a collector is a URL such as http://127.0.0.1:4318/v1/traces")
    return value


def _username(value: str) -> str:
    if ":" in value:
        raise ValueError("a user name cannot contain a colon: in HTTP, the colon ends the user name")
    return value


def _as_endpoint(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


class Rewrite(Model):
    """One rule: if the pattern matches the requested repository, every match is replaced by the replacement."""

    pattern: Annotated[str, AfterValidator(_pattern)]
    """Regular expression in Go's syntax (RE2). It is not anchored: write `^` and `$`."""
    replacement: str
    """Go template: `$1`, `${1}` and `${name}` refer to groups, `$$` is a dollar sign."""


class Endpoint(Model):
    """A base URL of a registry, and the settings of this endpoint."""

    url: Annotated[str, AfterValidator(_endpoint)]
    """`https://host[:port]`, also with a path: `/v2/project` adds a prefix, a path without `/v2` replaces `/v2`."""
    scope: Literal["computed", "challenge"] = "computed"
    """The scope of a token request. `computed`: the repository that is requested upstream. `challenge`: the repository
    that the registry's challenge names, for `pull` only (for registries with virtual paths)."""
    forward_namespace: StrictBool = False
    """Forward `?ns=<registry>` to the endpoint, if it is a mirror itself."""
    rewrites: tuple[Rewrite, ...] | None = None
    """Rules for this endpoint, instead of those of the registry."""

    @property
    def address(self) -> EndpointAddress:
        """The parsed URL."""
        return EndpointAddress.parse(self.url)


class Registry(Model):
    """A registry that nodes pull from: its endpoints and its rewrite rules."""

    endpoints: tuple[Annotated[Endpoint, BeforeValidator(_as_endpoint)], ...] = ()
    """Endpoints, tried in order. If empty, the registry itself."""
    rewrites: tuple[Rewrite, ...] = ()
    """Rewrite rules in order; the first rule that changes the repository wins."""
    node_rewrites: StrictBool = False
    """Set it if nodes rewrite as well: a repository that already begins with the literal prefix of a replacement is
    not changed."""


class Credential(Model):
    """A user and password, an identity token, a Docker config file or a credential helper."""

    repositories: str = "**"
    """Upstream repositories that the credential is used for: `*` matches one segment, `**` any number of segments."""
    username: Annotated[str, AfterValidator(_username)] | None = None
    """User name."""
    password: SecretStr | None = None
    """Password; prefer `passwordFile` or `passwordEnv`."""
    password_file: str | None = None
    """File that contains the password; one trailing newline is removed."""
    password_env: str | None = None
    """Name of an environment variable that contains the password."""
    identity_token: SecretStr | None = None
    """OAuth2 refresh token."""
    identity_token_file: str | None = None
    """File that contains the refresh token."""
    identity_token_env: str | None = None
    """Name of an environment variable that contains the refresh token."""
    docker_config_file: str | None = None
    """A `config.json` or `.dockerconfigjson`; its entry with the longest matching path is used."""
    helper: str | None = None
    """`<name>` of a `docker-credential-<name>` program on the `PATH`."""

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
            raise ValueError("username and a password belong together: set both or neither")
        if self.helper is not None and not _HELPER.fullmatch(self.helper):
            raise ValueError("helper is the part of the program's name after docker-credential-, without a path")
        return self


class Tls(Model):
    """How scope-proxy verifies the certificate of a host, by the rules of Go, and its own client certificate."""

    ca_file: str | None = None
    """CA certificates in PEM, used instead of the system's; may be an intermediate's or the host's own certificate."""
    cert_file: str | None = None
    """Client certificate in PEM."""
    key_file: str | None = None
    """Private key of the client certificate in PEM."""
    insecure_skip_verify: StrictBool = False
    """Accept any certificate. Insecure: anyone on the network path can read and change all traffic."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("certFile and keyFile belong together: set both or neither")
        return self


class Host(Model):
    """How to connect to a host: credentials, TLS and limits."""

    credentials: Annotated[tuple[Credential, ...], BeforeValidator(as_list)] = ()
    """One credential or a list. The one with the longest matching `repositories` is used first, the next one after a
    refusal."""
    realms: tuple[Annotated[str, AfterValidator(exact_origin)], ...] = ()
    """Origins of token servers that may receive the credentials, in addition to the host's own origin."""
    redirects: tuple[Annotated[str, AfterValidator(exact_origin)], ...] = ()
    """Origins to which redirects are followed although they use `http` or a private or loopback address."""
    token_method: Literal["auto", "get", "post", "basic"] = "auto"  # noqa: S105 - no password
    """How tokens are requested: `auto` detects it; `get`, `post`: with this HTTP method; `basic`: not at all, the user
    and password are sent with every request."""
    tls: Tls = Tls()
    """Certificates of the host."""
    max_connections: Annotated[int, Field(ge=2, le=1000, strict=True)] = 32
    """Concurrent requests to the host; a quarter is reserved for manifests and tokens."""


class Limits(Model):
    """Limits on clients, for each process."""

    connections: Annotated[int, Field(ge=16, le=100_000, strict=True)] = 4096
    """Client connections to all listeners together. At the limit, a new connection replaces an idle one of the address
    with the most connections. If none is idle, it waits if its address has fewer connections than others; otherwise it
    is closed."""
    requests: Annotated[int, Field(ge=8, le=100_000, strict=True)] = 2048
    """Concurrent requests, at most seven eighths of `connections`. At the limit, a request gets 503, unless its address
    has fewer than its share."""
    min_read_rate: Rate = 16 << 10
    """Bytes per second that a client has to read while others wait; the connection of a slower client is closed. While
    others wait for the host, it applies to blobs that are not cached, measured over `timeouts.slowClient`. While others
    wait for a connection, it applies to every response to the address with the most connections, measured over 2 s."""


class Admin(Model):
    """Addresses for the operator: metrics, health checks and the status page."""

    address: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:5007"
    """`host:port` for metrics, health checks and the status page. It has no authentication: keep it on loopback."""
    metrics_address: Annotated[str, AfterValidator(listen_address)] | None = None
    """A second `host:port` with metrics and health checks only, for the network of Prometheus."""


class Timeouts(Model):
    """Time limits."""

    manifest: Wait = 10.0
    """Time budget for the response headers of a manifest, tag list or referrers; then the node gets 503 or 504."""
    blob: Wait = 15.0
    """Time budget for the response headers of a blob."""
    connect: Wait = 5.0
    """Time to connect to an upstream, including TLS."""
    stall: Wait = 15.0
    """Time without a byte of an upstream body, after which the download is resumed with a new request."""
    request: Annotated[Wait, Restart()] = 10.0
    """Time for a client to send a request header. It begins with the first byte; for the first request of a connection,
    with the connection. Also the time for a TLS handshake, and for the body of a token request."""
    client_stall: Annotated[Wait, Restart()] = 300.0
    """Time in which a client reads nothing of a body, after which its connection is closed."""
    slow_client: Annotated[Wait, Restart()] = 60.0
    """Time over which `limits.minReadRate` is measured for blobs that are not cached."""
    shutdown_grace: Annotated[Duration, Restart()] = 30.0
    """Time after SIGTERM to complete pulls in flight; a second signal stops the proxy at once."""
    drain_idle: Annotated[Duration, Restart()] = 3.0
    """Time without a request, after SIGTERM, until the proxy stops: a pull consists of many requests."""


class Tracing(Model):
    """Traces (OpenTelemetry); requires the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """URL of a collector for OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share (0 to 1) of the traces starting at scope-proxy that is sampled. A client decides about its own trace."""


class Log(Model):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    format: Literal["json", "text"] = "json"
    """`json`: one JSON object per line; `text`: readable text."""
    access: Literal["all", "errors", "denied", "none"] = "all"
    """The requests that are logged at level `info`. `errors`: requests with status 400 or higher, and aborted ones.
    `denied`: requests that scope-proxy or an upstream denied, without the 401 that every client without a credential
    gets at first."""


RegistryName = Annotated[str, AfterValidator(_registry_name)]


class Config(Model):
    """The whole configuration."""

    version: Literal[1]
    """Version of the file format."""
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1)] = (Listener(address="127.0.0.1:5000"),)
    """Addresses on which nodes pull."""
    admin: Annotated[Admin | None, Restart()] = Admin()
    """Metrics, health checks and the status page; `null` turns them off."""
    registries: dict[RegistryName, Registry] = {}  # noqa: RUF012 - pydantic copies defaults
    """One entry for each registry that nodes pull from (containerd's `ns=`)."""
    default_registry: RegistryName | None = None
    """The registry for requests that name none."""
    access: tuple[AccessRule, ...] = ()
    """Who may pull which registries and repositories. The first rule that matches decides; if none matches, the pull is
    denied. Without rules, everything that is configured may be pulled."""
    hosts: dict[RegistryName, Host] = {}  # noqa: RUF012 - as above
    """Credentials, TLS and limits of a host, by `host[:port]` of an endpoint; `"*"` for every host without an entry."""
    docker_config_files: tuple[str, ...] = ()
    """`config.json` or `.dockerconfigjson` files with credentials for any host, used after those of `hosts`."""
    cache: Cache | None = None
    """The cache on disk; without this section, nothing is stored."""
    workers: Annotated[int, Field(ge=1, le=64, strict=True), Restart()] = 1
    """Number of processes that share the listeners and the cache."""
    timeouts: Timeouts = Timeouts()
    """Time limits."""
    limits: Annotated[Limits, Restart()] = Limits()
    """Limits on clients."""
    tracing: Annotated[Tracing | None, Restart()] = None
    """Traces of requests; without this section, a client's trace context is passed on unchanged."""
    log: Log = Log()
    """The log on standard error."""

    @field_validator("default_registry")
    @classmethod
    def _default_is_known(cls, value: str | None, info: ValidationInfo) -> str | None:
        registries = info.data.get("registries")  # missing if it is invalid itself
        if value is not None and registries is not None and value not in registries:
            raise ValueError(f"defaultRegistry {value!r} is not configured: add it under registries")
        return value

    def host(self, origin: Origin) -> Host:
        """The settings of a host: the entry `host:port` or `host`, else `"*"`, else the defaults."""
        for key in (f"{origin.authority_host}:{origin.port}", origin.authority, ANY):
            if key in self.hosts:
                return self.hosts[key]
        return Host()
