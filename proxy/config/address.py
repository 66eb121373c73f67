"""Origins and endpoint addresses: the part of a registry's URL before the repository."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
API_ROOT = "/v2"
_API_HOSTS = {"docker.io": "registry-1.docker.io"}

_LABEL = r"[A-Za-z0-9_-]{1,63}"  # a longer one is an error inside resolvers (RFC 1035)
_HOST = re.compile(rf"(?=[A-Za-z0-9]){_LABEL}(?:\.{_LABEL})*(?<=[A-Za-z0-9])|\[[0-9A-Fa-f:.]+\]")
_REGISTRY = re.compile(
    r"(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?", re.ASCII
)
MAX_PORT = 65535
_PATH = re.compile(r"/[A-Za-z0-9._~/%+@:-]*")


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Scheme, host and port of a server: the unit of trust for credentials."""

    scheme: str
    host: str
    port: int
    authority_host: str = field(init=False, repr=False, compare=False)
    """The host as in a URL: an IPv6 address is in brackets."""
    authority: str = field(init=False, repr=False, compare=False)
    """The host, with the port unless it is the default of the scheme, as in a Host header or a `hosts` key."""
    text: str = field(init=False, repr=False, compare=False)
    """The origin as a URL without a path."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """The origin of a URL; raises ValueError unless it is http or https without user information."""
        if not url.isascii() or any(character <= " " or character == "\\" for character in url):
            raise ValueError("the URL contains a space, a control character or a non-ASCII character")
        try:
            parts = urlsplit(url)
        except ValueError:  # its message repeats the URL
            raise ValueError("the URL has no valid host") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError(f"the scheme must be http or https, not {parts.scheme!r}")
        if "@" in parts.netloc:
            raise ValueError("the URL must not contain a user name or password: set credentials under hosts")
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the port must be a number from 1 to 65535") from None
        host = parts.hostname or ""
        if not host or not _HOST.fullmatch(f"[{host}]" if ":" in host else host):
            raise ValueError("the URL has no valid host")
        if port == 0:
            raise ValueError("the port must be a number from 1 to 65535")
        return cls(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme])

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"
        object.__setattr__(self, "authority_host", host)
        object.__setattr__(self, "authority", authority)
        object.__setattr__(self, "text", f"{self.scheme}://{authority}")

    def __str__(self) -> str:
        """The origin as a URL without a path."""
        return self.text


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An origin and the path before the repository, normally `/v2`."""

    origin: Origin
    root: str
    text: str = field(init=False, repr=False, compare=False)
    """The endpoint as a URL."""
    repository_prefix: str = field(init=False, repr=False, compare=False)
    """The part of the path after the first `/v2` segment, with which the upstream repository begins.

    It is empty if the path has no `/v2` segment: such a path replaces `/v2`.
    """

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an endpoint as k3s and containerd do: no path means `/v2`, any other path replaces it.

        Raises ValueError for a query, a fragment, user information or a path outside the URL grammar.
        """
        origin = Origin.parse(url)
        parts = urlsplit(url)
        if parts.query or parts.fragment or "?" in url or "#" in url:
            raise ValueError("an endpoint has no query and no fragment: remove everything from the ? or #")
        path = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
        if path and (not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/"))):
            raise ValueError(f"the path {parts.path!r} is not a valid URL path")
        return cls(origin, path or API_ROOT)

    @classmethod
    def parse_loose(cls, text: str) -> Self:
        """Read an endpoint of a registries.yaml: without a scheme, the default is that of k3s and containerd."""
        return cls.parse(text if "://" in text else f"{default_scheme(text.split('/', 1)[0])}://{text}")

    def __post_init__(self) -> None:
        segments = self.root.strip("/").split("/")
        prefix = "/".join(segments[segments.index("v2") + 1 :]) if "v2" in segments else ""
        object.__setattr__(self, "text", f"{self.origin.text}{self.root}")
        object.__setattr__(self, "repository_prefix", prefix)

    def repository(self, path: str) -> str:
        """The upstream repository if `path` is requested at this endpoint."""
        return f"{self.repository_prefix}/{path}" if self.repository_prefix else path

    def __str__(self) -> str:
        """The endpoint as a URL."""
        return self.text


def canonical_registry(text: str) -> str:
    """The canonical name of a registry, as in the keys of `registries`; raises ValueError for an invalid name.

    A host in lower case, or an IPv6 address in brackets in its shortest form, and a port without leading zeros.
    """
    match = _REGISTRY.fullmatch(text.lower())
    if match is None or int(match["port"] or 1) > MAX_PORT:
        raise ValueError('the name of a registry or host is host, host:port or "*", without scheme and path')
    host = match["host"]
    if host.startswith("["):
        host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    return host if match["port"] is None else f"{host}:{match['port']}"


def default_scheme(authority: str) -> str:
    """The scheme of an address without one, as in k3s: http for loopback with a port other than 443, else https."""
    try:
        origin = Origin.parse(f"https://{authority}")
    except ValueError:
        return "https"
    if ":" not in authority.rsplit("]", 1)[-1] or origin.port == DEFAULT_PORTS["https"]:
        return "https"
    return "http" if is_loopback(origin.host) else "https"


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or `localhost`; does not use DNS."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def default_endpoint(registry: str) -> EndpointAddress:
    """The endpoint of a registry without configured endpoints: the registry itself; for Docker Hub, its API host."""
    return EndpointAddress.parse_loose(_API_HOSTS.get(registry, registry))
