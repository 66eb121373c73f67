"""The route of a request: from its name to endpoints and upstream repositories. No I/O; `explain` uses it too."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from cachetools import LRUCache

from proxy.config.address import EndpointAddress, Origin, canonical_registry, default_endpoint
from proxy.config.model import ANY, Config, Endpoint, Host, Registry, Rewrite
from proxy.oci.errors import RegistryUnknown
from proxy.oci.login import ANONYMOUS, PROXY, Caller
from proxy.oci.reference import canonical_repository, check_repository
from proxy.routing.rewrite import PlacedRule, RewriteRules, Rewriting
from proxy.rules.rewrite_rule import RewriteRule

MAX_CACHED = 4096
"""Maximum number of cached routes; a route depends only on the configuration and the request."""
MAX_CACHED_LENGTH = 512
"""Maximum characters of name, `ns=` and host together of a request whose route is cached."""

_REGISTRY_LIKE = re.compile(r"localhost|[^/]*[.:][^/]*")
"""A first segment that container clients interpret as a registry."""

_CONFIGURED = {"hint": "scope-proxy check --effective prints the registries that are configured"}


class Places(Protocol):
    """Positions of settings."""

    def at(self, *path: str | int) -> str:
        """`file:line:column` of the setting."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint, and the requests for one repository there."""

    endpoint: EndpointAddress
    path: str
    """The rewritten repository, which follows the endpoint's root in the URL."""
    repository: str
    """The upstream repository, as in the upstream's scope."""
    scope: Literal["computed", "challenge"]
    namespace: str | None
    """The registry to forward as `ns=`; None if the endpoint does not use it."""
    rewriting: Rewriting
    place: str
    """The position of the endpoint in the configuration."""
    settings: Host = field(repr=False, compare=False)
    """The settings of the endpoint's host."""
    key: str = field(init=False, repr=False, compare=False)
    """Identifies the repository at this endpoint; with another `ns=`, the same name may be another repository."""
    url_prefix: str = field(init=False, repr=False, compare=False)
    """The URL of the repository, which ends in a slash."""

    def __post_init__(self) -> None:
        address = f"{self.endpoint.text}/{self.path}"
        object.__setattr__(self, "key", address + (f"?ns={self.namespace}" if self.namespace else ""))
        object.__setattr__(self, "url_prefix", f"{address}/")

    def url(self, suffix: str) -> str:
        """The URL of a part of the repository, such as `manifests/1.2`."""
        return self.url_prefix + suffix


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """The owner of tags and links: the registry, and the repository at each of its endpoints.

    It is not joined to one text, because different keys could then become equal.
    """

    registry: str
    repositories: tuple[str, ...]
    text: str = field(init=False, repr=False, compare=False)
    """The key as JSON."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", json.dumps([self.registry, *self.repositories]))


@dataclass(frozen=True, slots=True)
class Starter:
    """The repository and client that started a download; its failure may not apply to others."""

    key: RepositoryKey
    identity: str


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoints for a repository, and the reasons for the decision."""

    registry: str
    """The requested registry."""
    upstream: str
    """The entry of `registries` that applies: the registry itself or `*`."""
    repository: str
    """The requested repository."""
    targets: tuple[Target, ...]
    trace: tuple[str, ...]
    caller: Caller = PROXY
    """Who pulls."""
    is_shared: bool = True
    """Whether content from any registry may be served: every client may pull everything."""
    origins: frozenset[Origin] = field(init=False, repr=False, compare=False)
    """The origins of the endpoints."""
    domain: frozenset[Origin] | None = field(init=False, repr=False, compare=False)
    """The origins whose content may be served for this route; None for all registries."""
    key: RepositoryKey = field(init=False, repr=False, compare=False)
    """The registry and the repository at each endpoint: with a changed rewrite rule, it is another key.

    For clients with their own credentials, it also contains the endpoints: the right to a repository of one host is no
    right to the repository of the same name at another host.
    """
    starter: Starter = field(init=False, repr=False, compare=False)
    """Identifies who starts a download by this route."""

    def __post_init__(self) -> None:
        is_own = self.caller.login is not None
        key = RepositoryKey(self.registry, tuple(item.key if is_own else item.repository for item in self.targets))
        origins = frozenset(target.endpoint.origin for target in self.targets)
        object.__setattr__(self, "origins", origins)
        object.__setattr__(self, "domain", None if self.is_shared else origins)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "starter", Starter(key, self.caller.identity))

    def keys(self) -> list[RepositoryKey]:
        """Every key under which the cache may have the repository: the proxy's, and one for each endpoint."""
        client = Caller(login=ANONYMOUS)
        single = [replace(self, targets=(target,), caller=client) for target in self.targets]
        return [route.key for route in (replace(self, caller=PROXY), *single)]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    address: EndpointAddress
    scope: Literal["computed", "challenge"]
    forward_namespace: bool
    rules: RewriteRules
    place: str
    settings: Host


@dataclass(frozen=True, slots=True)
class _Addressed:
    registry: str
    name: str
    why: str


class RouteTable:
    """The routes of a configuration."""

    def __init__(self, config: Config, places: Places) -> None:
        self._default = config.default_registry
        self._is_shared = shares_content(config)
        self._known: LRUCache[tuple[str, str | None, str | None], Route] = LRUCache(MAX_CACHED)
        self._endpoints = {name: _endpoints(config, name, entry, places) for name, entry in config.registries.items()}

    def resolve(self, name: str, *, namespace: str | None = None, host: str | None = None) -> Route:
        """The route of a request: the name in its path, its `ns=` and its Host header.

        Raises RegistryUnknown if it names no configured registry, NameInvalid for an invalid repository, and Denied if
        a rule leaves no valid repository.
        """
        key = (name, namespace, host)
        route = self._known.get(key)
        if route is None:
            route = self._resolved(name, namespace, host)
            if sum(len(part) for part in key if part is not None) <= MAX_CACHED_LENGTH:
                self._known[key] = route
        return route

    def _resolved(self, name: str, namespace: str | None, host: str | None) -> Route:
        named = self._address(name, namespace, host)
        upstream = named.registry if named.registry in self._endpoints else ANY
        repository = check_repository(canonical_repository(named.registry, named.name))
        targets = tuple(_target(endpoint, named.registry, repository) for endpoint in self._endpoints[upstream])
        trace = (named.why, f"configured as registries.{upstream}")
        return Route(named.registry, upstream, repository, targets, trace, is_shared=self._is_shared)

    def _address(self, name: str, namespace: str | None, host: str | None) -> _Addressed:
        if namespace is not None:
            return self._by_namespace(name, namespace)
        if host is not None and self._is_named(host.lower()):
            return _Addressed(host.lower(), name, "registry named by the Host header")
        first, _, rest = name.partition("/")
        if rest and self._is_named(first):
            return _Addressed(first, rest, "registry named by the first part of the path")
        if self._default is not None:
            return _Addressed(self._default, name, "registry is the defaultRegistry")
        if rest and _REGISTRY_LIKE.fullmatch(first):
            raise self._unknown(first)
        raise RegistryUnknown(
            f"{name[:100]} names no registry: send ns=, put the registry before it, or configure defaultRegistry",
            detail={"hint": "point containerd at the proxy with a hosts.toml or registries.yaml, which send ns="},
        )

    def _by_namespace(self, name: str, namespace: str) -> _Addressed:
        if not namespace:
            raise RegistryUnknown("ns= is empty: it must name a registry", detail=_CONFIGURED)
        try:
            registry = canonical_registry(namespace)
        except ValueError:
            registry = ""
        if not self._is_named(registry) and not (registry and ANY in self._endpoints):
            raise self._unknown(namespace)
        stripped = name.removeprefix(f"{registry}/")
        why = "registry named by ns="
        return _Addressed(registry, stripped, why if stripped == name else f"{why}, and removed from the path")

    def _unknown(self, registry: str) -> RegistryUnknown:
        """The error for a registry that is not configured; suggests lower case if that is configured."""
        lower = registry.lower()
        advice = f"write {lower}" if registry != lower and self._is_named(lower) else "add it under registries"
        return RegistryUnknown(
            f"registry {registry[:100]} is not configured: {advice}",
            detail=_CONFIGURED,
        )

    def _is_named(self, registry: str) -> bool:
        return registry != ANY and registry in self._endpoints


def shares_content(config: Config) -> bool:
    """Whether registries share cached content: there is no `auth: upstream` and no access rule."""
    return not config.access and not any("upstream" in listener.clients.auth for listener in config.listeners)


def _endpoints(config: Config, name: str, entry: Registry, places: Places) -> tuple[_Endpoint, ...]:
    shared = _rules(entry.rewrites, entry, places, ("registries", name, "rewrites"))
    if not entry.endpoints:
        address, place = default_endpoint(name), places.at("registries", name)
        settings = config.host(address.origin)
        return (_Endpoint(address, "computed", forward_namespace=False, rules=shared, place=place, settings=settings),)
    found: list[_Endpoint] = []
    for index, endpoint in enumerate(entry.endpoints):
        path = ("registries", name, "endpoints", index)
        rules = _endpoint_rules(endpoint, entry, shared, places, path)
        address, place = endpoint.address, places.at(*path)
        settings = config.host(address.origin)
        found.append(_Endpoint(address, endpoint.scope, endpoint.forward_namespace, rules, place, settings))
    return tuple(found)


def _endpoint_rules(
    endpoint: Endpoint, entry: Registry, shared: RewriteRules, places: Places, path: tuple[str | int, ...]
) -> RewriteRules:
    """The endpoint's own rules, or those of its registry."""
    return shared if endpoint.rewrites is None else _rules(endpoint.rewrites, entry, places, (*path, "rewrites"))


def _rules(rewrites: tuple[Rewrite, ...], entry: Registry, places: Places, path: tuple[str | int, ...]) -> RewriteRules:
    placed = tuple(
        PlacedRule(RewriteRule.compile(rewrite.pattern, rewrite.replacement), places.at(*path, index))
        for index, rewrite in enumerate(rewrites)
    )
    return RewriteRules(placed, entry.node_rewrites)


def _target(endpoint: _Endpoint, registry: str, repository: str) -> Target:
    rewriting = endpoint.rules.apply(repository)
    address = endpoint.address
    return Target(
        endpoint=address,
        path=rewriting.path,
        repository=address.repository(rewriting.path),
        scope=endpoint.scope,
        namespace=registry if endpoint.forward_namespace else None,
        rewriting=rewriting,
        place=endpoint.place,
        settings=endpoint.settings,
    )
