"""aiohttp sessions: one per host that the configuration names, and one for servers that upstreams name."""

import contextlib
import logging
import os
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver
from cachetools import LRUCache, TTLCache
from yarl import URL

from proxy.config.address import Origin
from proxy.config.errors import SettingError
from proxy.config.files import require_regular
from proxy.config.model import Config, Tls
from proxy.observe.metrics import TLS_NOT_AFTER, UPSTREAM_DURATION, UPSTREAM_REQUESTS, Bound, status_label
from proxy.transport.addresses import JudgingResolver, NameLookups, Network, judge, literal_address, network_of
from proxy.transport.clock import Attempt, at_upstream, connection_traces
from proxy.transport.forward_proxy import ForwardProxies, ForwardProxy
from proxy.transport.limits import QUEUE_LIMIT, HostLimit
from proxy.transport.verification import client_context
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
NAMED_CONNECTIONS = 256
"""Most connections to servers that one upstream names."""
_HOST_LIMITS = 1024

_REQUESTS, _DURATIONS = Bound(UPSTREAM_REQUESTS), Bound(UPSTREAM_DURATION)
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
    """The upstream that named this origin, by a challenge or a redirect: then its address is judged."""
    redirected: bool = False
    """The origin was redirected to: our client certificate is not sent there."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """What connections may be shared by: those to servers that an upstream names, on allowed networks."""

    upstream: Origin
    tls: Tls
    networks: frozenset[Network] | None


@dataclass(frozen=True, slots=True)
class _Channel:
    """How requests leave: by which session, and through which forward proxy."""

    session: aiohttp.ClientSession
    forward: ForwardProxy | None


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Limits of sessions that are no settings."""

    dns_seconds: int = DNS_SECONDS
    named_connections: int = NAMED_CONNECTIONS
    queue: int = QUEUE_LIMIT


SESSION_LIMITS = SessionLimits()


class Sessions:
    """Opens requests to the outside; the only place where connections are made."""

    def __init__(
        self,
        config: Config,
        tls: Mapping[Tls, ssl.SSLContext],
        proxies: ForwardProxies,
        *,
        limits: SessionLimits = SESSION_LIMITS,
        lookups: AbstractResolver | None = None,
    ) -> None:
        self._config = config
        self._limits = limits
        self._tls = tls
        self._proxies = proxies
        self._own: dict[Origin, _Channel] = {}  # upstreams are configured, so there are few
        self._named: dict[_Pool, aiohttp.ClientSession] = {}  # servers that they name
        self._host_limits: LRUCache[Origin, HostLimit] = LRUCache(_HOST_LIMITS)
        self._networks: TTLCache[Origin, frozenset[Network]] = TTLCache(_HOST_LIMITS, limits.dns_seconds)
        self._lookups = lookups or NameLookups()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (*(channel.session for channel in self._own.values()), *self._named.values()):
            await session.close()
        await self._lookups.close()

    def is_listed(self, origin: Origin, upstream: Origin) -> bool:
        """Whether the configuration lets this upstream name this origin, so that its address is nobody's to judge."""
        host = self._config.host(upstream)
        return origin.text in (*host.realms, *host.redirects)

    def host_limit(self, origin: Origin) -> HostLimit:
        """How many requests the origin gets at once."""
        if origin not in self._host_limits:
            self._host_limits[origin] = HostLimit(self._config.host(origin).max_connections, self._limits.queue)
        host_limit: HostLimit = self._host_limits[origin]
        return host_limit

    async def request(self, outgoing: Outgoing) -> aiohttp.ClientResponse:
        """Send one request, without following redirects.

        Raises aiohttp.ClientError, TimeoutError and AddressRefused.
        """
        channel = await self._channel(outgoing)
        forward = channel.forward
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **outgoing.headers}
        proxy_headers: dict[str, str] = {}
        if forward is not None and forward.authorization is not None:
            target = headers if outgoing.origin.scheme == "http" else proxy_headers
            target["Proxy-Authorization"] = forward.authorization
        started = time.perf_counter()
        with Attempt() as attempt:
            response = await channel.session.request(
                outgoing.method,
                outgoing.url,
                headers=headers,
                data=outgoing.form,
                allow_redirects=False,
                proxy=forward.url if forward else None,
                proxy_headers=proxy_headers or None,
                trace_request_ctx=attempt,
            )
        _DURATIONS[outgoing.label].observe(time.perf_counter() - started)
        _REQUESTS[*outgoing.label, status_label(response.status)].inc()
        _logger.debug("%s %s answered %d", outgoing.method, response.url.with_query(None), response.status)
        return response

    async def networks(self, origin: Origin) -> frozenset[Network]:
        """The kinds of network that an origin's addresses belong to; raises OSError where it does not resolve."""
        known: frozenset[Network] | None = self._networks.get(origin)
        if known is None:
            if literal := literal_address(origin.host):
                known = frozenset({network_of(literal)})
            else:
                with at_upstream():
                    results = await self._lookups.resolve(origin.host, origin.port)
                known = frozenset(network_of(result["host"]) for result in results)
            self._networks[origin] = known
        return known

    async def _channel(self, outgoing: Outgoing) -> _Channel:
        """The channel for a request: the origin's own, or one of the upstream that named it."""
        origin, named_by = outgoing.origin, outgoing.named_by
        if named_by is None:
            return self._own.get(origin) or self._begin_own(origin)
        host, forward = self._config.host(origin), self._proxies.proxy_for(origin)
        tls = without_certificate(host.tls) if outgoing.redirected else host.tls
        networks = None
        # Behind a forward proxy it is the proxy that resolves names: nothing to judge here.
        if forward is None and not self.is_listed(origin, named_by):
            networks = await self.networks(named_by)
            if literal := literal_address(origin.host):
                judge(origin.host, literal, networks)
        # A pool for each upstream: what one of them names cannot use up the connections of another.
        pool = _Pool(named_by, tls, networks)
        return _Channel(self._named.get(pool) or self._begin_named(pool), forward)

    def _begin_own(self, origin: Origin) -> _Channel:
        host = self._config.host(origin)
        session = self._build(self._tls[host.tls], self._lookups, host.max_connections)
        channel = self._own[origin] = _Channel(session, self._proxies.proxy_for(origin))
        return channel

    def _begin_named(self, pool: _Pool) -> aiohttp.ClientSession:
        lookups = self._lookups
        resolver = lookups if pool.networks is None else JudgingResolver(pool.networks, lookups)
        session = self._named[pool] = self._build(self._tls[pool.tls], resolver, self._limits.named_connections)
        return session

    def _build(self, tls: ssl.SSLContext, resolver: AbstractResolver, connections: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=tls,
            resolver=resolver,
            limit=connections,
            keepalive_timeout=IDLE_SECONDS,
            ttl_dns_cache=self._limits.dns_seconds,
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
            trace_configs=[connection_traces()],
        )


def load_tls(config: Config) -> Mapping[Tls, ssl.SSLContext]:
    """The TLS contexts of all hosts; raises SettingError that names the host and the file that cannot be used."""
    contexts = {Tls(): _context(Tls())}
    for name, host in config.hosts.items():
        contexts |= host_contexts(name, host.tls, contexts)
        if host.tls.cert_file is not None:
            _note_end(f"hosts.{name}.tls", host.tls.cert_file)
    return MappingProxyType(contexts)


def host_contexts(name: str, tls: Tls, known: Collection[Tls] = ()) -> dict[Tls, ssl.SSLContext]:
    """The TLS contexts of one host, those aside that are known; raises SettingError."""
    try:
        return {each: _context(each) for each in {tls, without_certificate(tls)} - set(known)}
    except OSError as error:
        setting, files = _unusable(tls)
        raise SettingError(("hosts", name, "tls", setting), f"cannot use {files}: {_words(error)}") from None


def _unusable(tls: Tls) -> tuple[str, str]:
    """The setting that a context cannot be made of, and its file; certificate and key are named together."""
    settings = (("caFile", tls.ca_file), ("certFile", tls.cert_file), ("keyFile", tls.key_file))
    for setting, file in settings:
        if file is not None and not (os.access(file, os.R_OK) and Path(file).is_file()):
            return setting, file
    if tls.ca_file is not None:
        try:
            client_context(tls.ca_file)
        except OSError:
            return "caFile", tls.ca_file
    return "certFile", ", ".join(filter(None, (tls.cert_file, tls.key_file)))


def _words(error: OSError) -> str:
    """The words of the system, or those of OpenSSL, without numbers and places in sources."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "no PEM file that can be used"
    return error.strerror or type(error).__name__


def _note_end(setting: str, file: str) -> None:
    """Let the metrics tell when a certificate of ours ends; one that only OpenSSL can read is left out."""
    from cryptography import x509  # noqa: PLC0415 - large, and most registries require no client certificate

    with contextlib.suppress(OSError, ValueError):
        ends = x509.load_pem_x509_certificates(Path(file).read_bytes())[0].not_valid_after_utc
        TLS_NOT_AFTER.labels(setting).set(ends.timestamp())


def without_certificate(tls: Tls) -> Tls:
    """The same, but without our client certificate: for servers that an upstream redirects to."""
    return tls.model_copy(update={"cert_file": None, "key_file": None})


def _context(tls: Tls) -> ssl.SSLContext:
    for file in filter(None, (tls.ca_file, tls.cert_file, tls.key_file)):
        require_regular(file)
    context = client_context(tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
