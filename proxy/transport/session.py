"""aiohttp sessions: one per host that the configuration names, and one for servers that upstreams name."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import aiohttp
from aiohttp.resolver import ThreadedResolver
from cachetools import LRUCache, TTLCache
from yarl import URL

from proxy.config.address import Origin
from proxy.config.model import ANY, Config, Tls
from proxy.metrics import UPSTREAM_REQUESTS
from proxy.transport.addresses import JudgingResolver, Network, judge, literal_address, network_of
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.limits import Gate
from proxy.version import USER_AGENT

LINE_LIMIT = 8190
"""Longest status or header line of an upstream in bytes."""
HEADERS_LIMIT = 128
"""Most header lines of an upstream's answer."""
CHUNK = 256 * 1024
"""Bytes of a body that are read ahead; the reader pauses the connection beyond twice as much."""
IDLE_SECONDS = 30.0
"""How long an unused connection is kept."""
DNS_SECONDS = 30
"""How long an address is remembered."""
_FOREIGN_CONNECTIONS = 256
_GATES_LIMIT = 1024

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request to the outside."""

    method: str
    url: URL
    origin: Origin
    headers: Mapping[str, str] = field(repr=False)
    label: tuple[str, str]
    """The upstream and the operation, for the metrics."""
    form: Mapping[str, str] | None = field(default=None, repr=False)
    named_by: Origin | None = None
    """The upstream that named this origin, where the configuration does not: then its address is judged."""


class Sessions:
    """Opens requests to the outside; the only place where connections are made."""

    def __init__(self, config: Config, tls: Mapping[Tls, ssl.SSLContext], proxies: ForwardProxies) -> None:
        self._config = config
        self._tls = tls
        self._proxies = proxies
        self._named: dict[Origin, aiohttp.ClientSession] = {}
        self._foreign: dict[tuple[frozenset[Network], Tls], aiohttp.ClientSession] = {}
        self._gates: LRUCache[Origin, Gate] = LRUCache(_GATES_LIMIT)
        self._networks: TTLCache[Origin, frozenset[Network]] = TTLCache(_GATES_LIMIT, DNS_SECONDS)
        self._trusted = _named_origins(config)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (*self._named.values(), *self._foreign.values()):
            await session.close()

    def is_named(self, origin: Origin) -> bool:
        """Whether the configuration names this origin, so that its address is nobody's to judge."""
        return origin in self._trusted

    def gate(self, origin: Origin) -> Gate:
        """How many requests the origin gets at once."""
        if origin not in self._gates:
            self._gates[origin] = Gate(self._config.host(origin).max_connections)
        gate: Gate = self._gates[origin]
        return gate

    async def request(self, outgoing: Outgoing) -> aiohttp.ClientResponse:
        """Send one request, without following redirects.

        Raises aiohttp.ClientError, TimeoutError and AddressRefused.
        """
        forward = self._proxies.proxy_for(outgoing.origin)
        session = await self._session(outgoing.origin, outgoing.named_by, judged=forward is None)
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **outgoing.headers}
        proxy_headers: dict[str, str] = {}
        if forward is not None and forward.authorization is not None:
            target = headers if outgoing.origin.scheme == "http" else proxy_headers
            target["Proxy-Authorization"] = forward.authorization
        response = await session.request(
            outgoing.method,
            outgoing.url,
            headers=headers,
            data=outgoing.form,
            allow_redirects=False,
            proxy=forward.url if forward else None,
            proxy_headers=proxy_headers or None,
        )
        UPSTREAM_REQUESTS.labels(*outgoing.label, str(response.status)).inc()
        _logger.debug("%s %s answered %d", outgoing.method, response.url.with_query(None), response.status)
        return response

    async def networks(self, origin: Origin) -> frozenset[Network]:
        """The kinds of network that an origin's addresses belong to; raises OSError where it does not resolve."""
        known: frozenset[Network] | None = self._networks.get(origin)
        if known is None:
            if literal := literal_address(origin.host):
                known = frozenset({network_of(literal)})
            else:
                results = await ThreadedResolver().resolve(origin.host, origin.port)
                known = frozenset(network_of(result["host"]) for result in results)
            self._networks[origin] = known
        return known

    async def _session(self, origin: Origin, named_by: Origin | None, *, judged: bool) -> aiohttp.ClientSession:
        if named_by is None or self.is_named(origin):
            if origin not in self._named:
                host = self._config.host(origin)
                self._named[origin] = self._build(self._tls[host.tls], ThreadedResolver(), host.max_connections)
            return self._named[origin]
        # Behind a forward proxy it is the proxy that resolves names: nothing to judge here.
        upstream = await self.networks(named_by) if judged else frozenset(Network)
        if judged and (literal := literal_address(origin.host)):
            judge(origin.host, literal, upstream)
        tls = self._config.host(origin).tls
        if (upstream, tls) not in self._foreign:
            resolver = JudgingResolver(upstream)
            self._foreign[upstream, tls] = self._build(self._tls[tls], resolver, _FOREIGN_CONNECTIONS)
        return self._foreign[upstream, tls]

    def _build(
        self, tls: ssl.SSLContext, resolver: aiohttp.abc.AbstractResolver, connections: int
    ) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=tls,
            resolver=resolver,
            limit=connections,
            keepalive_timeout=IDLE_SECONDS,
            ttl_dns_cache=DNS_SECONDS,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._config.timeouts.connect),
            auto_decompress=False,  # layers arrive as sent, or their digest is wrong
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would read ~/.netrc
            read_bufsize=CHUNK,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=HEADERS_LIMIT,
        )


def load_tls(config: Config) -> Mapping[Tls, ssl.SSLContext]:
    """The TLS contexts of all hosts; raises ValueError that names the host and the file that cannot be used."""
    contexts = {Tls(): _context(Tls())}
    for name, host in config.hosts.items():
        if host.tls not in contexts:
            try:
                contexts[host.tls] = _context(host.tls)
            except (OSError, ssl.SSLError) as error:
                files = ", ".join(filter(None, (host.tls.ca_file, host.tls.cert_file, host.tls.key_file)))
                raise ValueError(f"hosts.{name}.tls: cannot use {files}: {error}") from None
    return MappingProxyType(contexts)


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _named_origins(config: Config) -> frozenset[Origin]:
    """Every origin that stands in the configuration: endpoints, hosts, realms and redirect targets."""
    endpoints = (endpoint.address.origin for entry in config.registries.values() for endpoint in entry.endpoints)
    hosts = (Origin.parse(f"https://{name}") for name in config.hosts if name != ANY)
    listed = (Origin.parse(url) for host in config.hosts.values() for url in (*host.realms, *host.redirects))
    return frozenset((*endpoints, *hosts, *listed))
