"""From the name that a node asks for to the endpoints and the repository upstream; pure: `explain` runs it too."""

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

REMEMBERED = 4096
"""Routes that are remembered: they depend on nothing but the configuration and what is asked."""
ASKED_REMEMBERED = 512
"""Characters of name, `ns=` and host together, of what is."""

_REGISTRY_LIKE = re.compile(r"localhost|[^/]*[.:][^/]*")
"""A first segment that names a registry, as container clients decide it."""

_CONFIGURED = {"hint": "scope-proxy check --effective prints the registries that are configured"}


class Places(Protocol):
    """Tells where a setting is written."""

    def at(self, *path: str | int) -> str:
        """`file:line:column` of the setting."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint, and how one repository is asked for there."""

    endpoint: EndpointAddress
    path: str
    """The rewritten repository, as it follows the endpoint's root."""
    repository: str
    """The upstream repository, as the upstream's scope names it."""
    scope: Literal["computed", "challenge"]
    namespace: str | None
    """The registry to send on as `ns=`, where the endpoint wants it."""
    rewriting: Rewriting
    place: str
    """Where the endpoint is written."""
    settings: Host = field(repr=False, compare=False)
    """How to talk to the endpoint's host."""
    key: str = field(init=False, repr=False, compare=False)
    """The repository as this endpoint has it: the same name for another registry (`ns=`) may be another one."""
    url_prefix: str = field(init=False, repr=False, compare=False)
    """The URL of the repository, which ends in a slash."""

    def __post_init__(self) -> None:
        address = f"{self.endpoint.text}/{self.path}"
        object.__setattr__(self, "key", address + (f"?ns={self.namespace}" if self.namespace else ""))
        object.__setattr__(self, "url_prefix", f"{address}/")

    def url(self, suffix: str) -> str:
        """The URL of something of the repository, such as `manifests/1.2`."""
        return self.url_prefix + suffix


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """What tags and links belong to: the registry, and the repository as each of its endpoints knows it.

    It is a tuple and stays one: joined as text, two of them could become equal.
    """

    registry: str
    repositories: tuple[str, ...]
    text: str = field(init=False, repr=False, compare=False)
    """The key as JSON, which keeps the parts apart."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", json.dumps([self.registry, *self.repositories]))


@dataclass(frozen=True, slots=True)
class Starter:
    """For whom something is fetched: what goes wrong is its own trouble, and may be nobody else's."""

    key: RepositoryKey
    identity: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where a repository is pulled from: the decision, and why."""

    registry: str
    """The registry that the node named."""
    upstream: str
    """The entry of `registries` that is responsible: the registry itself or `*`."""
    repository: str
    """The repository that the node asked for."""
    targets: tuple[Target, ...]
    trace: tuple[str, ...]
    caller: Caller = PROXY
    """Who pulls."""
    is_shared: bool = True
    """Whether what any registry has delivered counts: every client may pull everything."""
    origins: frozenset[Origin] = field(init=False, repr=False, compare=False)
    """The origins of the endpoints."""
    domain: frozenset[Origin] | None = field(init=False, repr=False, compare=False)
    """The origins whose deliveries of content count for this route; None for those of all registries."""
    key: RepositoryKey = field(init=False, repr=False, compare=False)
    """The registry and the repository as each endpoint knows it: after a changed rule it is another repository.

    For clients with credentials of their own it names the endpoints as well: who may pull a repository of one host has
    shown no right to what another host has under the same name.
    """
    starter: Starter = field(init=False, repr=False, compare=False)
    """Who fetches by this route."""

    def __post_init__(self) -> None:
        is_own = self.caller.login is not None
        key = RepositoryKey(self.registry, tuple(item.key if is_own else item.repository for item in self.targets))
        origins = frozenset(target.endpoint.origin for target in self.targets)
        object.__setattr__(self, "origins", origins)
        object.__setattr__(self, "domain", None if self.is_shared else origins)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "starter", Starter(key, self.caller.identity))

    def keys(self) -> list[RepositoryKey]:
        """Every key under which something of the repository may be kept: the proxy's own, and one for each endpoint."""
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
        self._known: LRUCache[tuple[str, str | None, str | None], Route] = LRUCache(REMEMBERED)
        self._endpoints = {name: _endpoints(config, name, entry, places) for name, entry in config.registries.items()}

    def resolve(self, name: str, *, namespace: str | None = None, host: str | None = None) -> Route:
        """The route of a name as it stands in the path, with the `ns=` and the Host header of the request.

        Raises RegistryUnknown where no configured registry is meant, NameInvalid for a bad repository, and Denied
        where a rule leaves no valid name.
        """
        key = (name, namespace, host)
        route = self._known.get(key)
        if route is None:
            route = self._resolved(name, namespace, host)
            if sum(len(part) for part in key if part is not None) <= ASKED_REMEMBERED:
                self._known[key] = route
        return route

    def _resolved(self, name: str, namespace: str | None, host: str | None) -> Route:
        asked = self._address(name, namespace, host)
        upstream = asked.registry if asked.registry in self._endpoints else ANY
        repository = check_repository(canonical_repository(asked.registry, asked.name))
        targets = tuple(_target(endpoint, asked.registry, repository) for endpoint in self._endpoints[upstream])
        responsible = f"configured as registries.{upstream}"
        trace = (asked.why, responsible)
        return Route(asked.registry, upstream, repository, targets, trace, is_shared=self._is_shared)

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
            raise RegistryUnknown("ns= is empty: it has to name a registry", detail=_CONFIGURED)
        try:
            registry = canonical_registry(namespace)
        except ValueError:
            registry = ""
        if not self._is_named(registry) and not (registry and ANY in self._endpoints):
            raise self._unknown(namespace)
        stripped = name.removeprefix(f"{registry}/")
        why = "registry named by ns="
        return _Addressed(registry, stripped, why if stripped == name else f"{why}, and taken off the path")

    def _unknown(self, registry: str) -> RegistryUnknown:
        """The error for a registry that is not configured; for one in upper case, with the name that is."""
        lower = registry.lower()
        advice = f"write {lower}" if registry != lower and self._is_named(lower) else "add it under registries"
        return RegistryUnknown(
            f"registry {registry[:100]} is not configured: {advice}",
            detail=_CONFIGURED,
        )

    def _is_named(self, registry: str) -> bool:
        return registry != ANY and registry in self._endpoints


def shares_content(config: Config) -> bool:
    """Whether cached content counts for every registry: no client has rights of its own, and there are no rules."""
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
