"""Forward proxies between us and the registries: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as Go and curl read them."""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from proxy.config.address import Origin, is_loopback

_EXCEPTION = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """A proxy's URL without user information, and the header that logs in to it."""

    url: str
    authorization: str | None = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the value of HTTPS_PROXY; a missing scheme means http. Raises ValueError, which shows no password."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host = parts.netloc.rpartition("@")[2]
            origin = Origin.parse(f"{parts.scheme}://{host}")
        except ValueError:  # its message may repeat the password
            raise ValueError("a forward proxy is http://[user:password@]host[:port]") from None
        login = None
        if parts.username is not None:
            plain = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            login = "Basic " + base64.b64encode(plain.encode()).decode()
        return cls(f"{origin.scheme}://{origin.authority_host}:{origin.port}", login)


@dataclass(frozen=True, slots=True)
class ForwardProxies:
    """Which proxy is used for which origin."""

    by_scheme: Mapping[str, ForwardProxy]
    exceptions: tuple[str, ...]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables, lower case first; raises ValueError with the name of a variable that is no proxy URL."""
        by_scheme: dict[str, ForwardProxy] = {}
        for scheme in ("http", "https"):
            for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
                if value := environment.get(name, "").strip():
                    by_scheme[scheme] = _named(name, value)
                    break
        exceptions = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        return cls(by_scheme, tuple(item.strip().lower() for item in exceptions.split(",") if item.strip()))

    def proxy_for(self, origin: Origin) -> ForwardProxy | None:
        """The proxy of an origin; None to connect directly, as always for loopback."""
        proxy = self.by_scheme.get(origin.scheme)
        if proxy is None or is_loopback(origin.host) or any(_excepts(item, origin) for item in self.exceptions):
            return None
        return proxy


def _named(name: str, value: str) -> ForwardProxy:
    try:
        return ForwardProxy.parse(value)
    except ValueError as error:
        raise ValueError(f"environment variable {name}: {error}") from None


def _excepts(item: str, origin: Origin) -> bool:
    """Whether one entry of NO_PROXY covers the origin: `*`, a domain and what is below it, an address or a network."""
    if item == "*":
        return True
    match = _EXCEPTION.fullmatch(item)
    if match is None:
        return _covers(item, origin.host)
    if match["port"] is not None and int(match["port"]) != origin.port:
        return False
    host = match["address"] or match["name"]
    if _covers(host, origin.host):
        return True
    domain = host.removeprefix("*").removeprefix(".")
    return origin.host == domain or origin.host.endswith(f".{domain}")


def _covers(network: str, host: str) -> bool:
    """Whether the host is an address of the network, or that very address."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
