"""Access rules: which client may pull which repository, under whichever name it is requested."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cachetools import LRUCache

from proxy.config.address import EndpointAddress, default_endpoint
from proxy.config.listener import AccessRule
from proxy.config.model import ANY, Config, Registry, Rewrite
from proxy.oci.errors import REASON_LIMIT, Denied, RegistryError
from proxy.oci.reference import DOCKER_HUB, HUB_NAMES, canonical_repository
from proxy.routing.table import Places, Route, RouteTable, Target
from proxy.rules.inverse import Inverse
from proxy.rules.patterns import covers, covers_repository
from proxy.rules.rewrite_rule import RewriteRule

_STANDARD_PORTS = (":443", ":80")
_HUB_SERVERS = frozenset({"registry-1.docker.io", "index.docker.io"})
_HUB_SERVER = "registry-1.docker.io"
_LIBRARY = "library/"


@dataclass(frozen=True, slots=True)
class Name:
    """One of the names of a repository."""

    registry: str
    repository: str

    def __str__(self) -> str:
        """The name without a tag; the registry alone if there is no repository."""
        return f"{self.registry}/{self.repository}".rstrip("/")


@dataclass(frozen=True, slots=True)
class _NamedEndpoint:
    """A registry, one of its endpoints, and the inverses of the rules there."""

    registry: str
    endpoint: EndpointAddress
    rules: tuple[Inverse, ...]


class Aliases:
    """Other names of a repository: those with which the given registries lead to the same upstream repository."""

    def __init__(self, config: Config, places: Places, registries: Iterable[str]) -> None:
        self._table = RouteTable(config, places)
        self._endpoints = tuple(_named_endpoints(config, dict.fromkeys(registries)))

    def of(self, route: Route) -> tuple[Name, ...]:
        """The names under which the repositories of a route can be requested, and their upstream names."""
        return tuple(dict.fromkeys(name for target in route.targets for name in self._of_target(target)))

    def _of_target(self, target: Target) -> Iterator[Name]:
        address, namespace = _address(target), _namespace(target)
        for named in self._endpoints:
            root = f"{_server(named.endpoint)}{named.endpoint.root}/"
            if not address.startswith(root):
                continue
            # Mirrors of Docker Hub may serve an official image with and without library/.
            path = canonical_repository(named.registry, address.removeprefix(root))
            candidates = (path, *(candidate for rule in named.rules for candidate in rule.candidates(path)))
            wanted = (f"{root}{path}", namespace)
            names = [name for name in dict.fromkeys(candidates) if self._leads(named.registry, name, wanted)]
            # A rule may also be written with the upstream name.
            upstream = (path, named.endpoint.repository(path)) if names else ()
            for name in (*names, *upstream):
                yield from _called(named.registry, name)

    def _leads(self, registry: str, name: str, wanted: tuple[str, str | None]) -> bool:
        """Whether a pull of the name leads to the wanted address and namespace, by the routes that pulls use."""
        try:
            route = self._table.resolve(name, namespace=registry)
        except RegistryError:
            return False
        return any((_address(target), _namespace(target)) == wanted for target in route.targets)


def own_names(route: Route) -> tuple[Name, ...]:
    """The names of a route itself: the requested one, the short one of Docker Hub, and the upstream ones."""
    upstream = (name for target in route.targets for name in (target.path, target.repository))
    called = (name for each in (route.repository, *upstream) for name in _called(route.registry, each))
    return tuple(dict.fromkeys(called))


def plain_registry(registry: str) -> str:
    """The main name of a registry that has several: without a default port, and `docker.io` for Docker Hub."""
    for port in _STANDARD_PORTS:
        registry = registry.removesuffix(port)
    return DOCKER_HUB if registry in HUB_NAMES else registry


def _called(registry: str, repository: str) -> Iterator[Name]:
    """A repository under the main name of its registry, and the short name of an official image of Docker Hub."""
    plain = plain_registry(registry)
    name = canonical_repository(plain, repository)
    yield Name(plain, name)
    if plain == DOCKER_HUB and name.startswith(_LIBRARY):
        yield Name(plain, name.removeprefix(_LIBRARY))


def _named_endpoints(config: Config, registries: Iterable[str]) -> Iterator[_NamedEndpoint]:
    for name in registries:
        entry = config.registries.get(name, config.registries.get(ANY))
        if entry is None:
            continue
        if not entry.endpoints:
            yield _NamedEndpoint(name, default_endpoint(name), _inverses(entry.rewrites))
        for endpoint in entry.endpoints:
            yield _NamedEndpoint(name, endpoint.address, _inverses(_rules(entry, endpoint.rewrites)))


def _rules(entry: Registry, own: tuple[Rewrite, ...] | None) -> tuple[Rewrite, ...]:
    return entry.rewrites if own is None else own


def _inverses(rewrites: Iterable[Rewrite]) -> tuple[Inverse, ...]:
    compiled = (RewriteRule.compile(rewrite.pattern, rewrite.replacement) for rewrite in rewrites)
    return tuple(inverse for rule in compiled if (inverse := Inverse.of(rule)) is not None)


def _namespace(target: Target) -> str | None:
    """The main name of the registry that is forwarded as `ns=`: with another one, it is another repository."""
    return None if target.namespace is None else plain_registry(target.namespace)


def _address(target: Target) -> str:
    """The address of the repository, with one name for each server."""
    server = _server(target.endpoint)
    official = server == _HUB_SERVER and target.endpoint.repository_prefix == "" and "/" not in target.path
    return f"{server}{target.endpoint.root}/{_LIBRARY if official else ''}{target.path}"


def _server(endpoint: EndpointAddress) -> str:
    """Host and port, with one name for the servers of Docker Hub."""
    authority = endpoint.origin.authority.lower().rstrip(".")
    return _HUB_SERVER if authority in _HUB_SERVERS else authority


EVERYTHING = ("**",)
"""`repositories` of a rule for whole registries."""
MAX_CACHED = 4096
"""Maximum number of cached lists of names, and of cached decisions."""
MAX_CLIENT_LENGTH = 40
"""Maximum characters of a client's name in a reason."""
MAX_PLACE_LENGTH = 60
"""Maximum characters of a rule's position in a reason."""

_NO_RULE = "no rule allows it"


class AccessDenied(Denied):
    """A rule of `access` denies the pull, or none allows it."""


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """Whether a client may pull a repository, and why."""

    allowed: bool
    place: str
    """The position of the rule that decides, or of `access` if no rule matches; empty without rules."""
    text: str
    """The rule as text."""


_UNRULED = AccessDecision(allowed=True, place="", text="no access rules")


@dataclass(frozen=True, slots=True)
class _OrderedRule:
    rule: AccessRule
    place: str

    @property
    def names_repositories(self) -> bool:
        """Whether it denies repositories under all their names, instead of whole registries."""
        return self.rule.action == "deny" and not set(self.rule.repositories) & set(EVERYTHING)

    def __str__(self) -> str:
        """The rule in short."""
        rule = self.rule
        lists = (("registries", rule.registries), ("repositories", rule.repositories), ("clients", rule.clients))
        return f"{rule.action} {', '.join(f'{name}: {_list(values)}' for name, values in lists)}"


class AccessRules:
    """The access rules of a configuration."""

    def __init__(self, config: Config, places: Places) -> None:
        self._rules = tuple(_OrderedRule(rule, places.at("access", index)) for index, rule in enumerate(config.access))
        self.has_rules = bool(self._rules)
        """Whether there are any rules; without rules, every client may pull everything."""
        self._place = places.at("access")
        self._aliases = Aliases(config, places, _denied_registries(config, self._rules))
        self._names: LRUCache[tuple[str, str], tuple[Name, ...]] = LRUCache(MAX_CACHED)
        self._decisions: LRUCache[tuple[str, str, str], AccessDecision] = LRUCache(MAX_CACHED)

    def check(self, route: Route, client: str) -> AccessDecision:
        """Whether the client may pull from the route.

        `allow` applies to the requested name. `deny` applies to every known name of the same upstream repository,
        including its upstream name; without `repositories`, it applies to the name of the registry only.
        """
        if not self._rules:
            return _UNRULED
        key = (route.registry, route.repository, client)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decisions[key] = self._decide(route, client)
        return decision

    def _decide(self, route: Route, client: str) -> AccessDecision:
        for placed in self._rules:
            if any(covers(pattern, client) for pattern in placed.rule.clients):
                name = self._match(placed, route)
                if name is not None:
                    is_requested = name == Name(route.registry, route.repository)
                    text = str(placed) if is_requested else f"{placed} (as {name})"
                    return AccessDecision(placed.rule.action == "allow", placed.place, text)
        return AccessDecision(allowed=False, place=self._place, text=_NO_RULE)

    def require(self, route: Route, client: str) -> None:
        """Raise AccessDenied if the client may not pull from the route."""
        decision = self.check(route, client)
        if decision.allowed:
            return
        image = f"{route.registry}/{route.repository}"
        detail = {"asked": image, "client": client, "hint": f"scope-proxy explain {image} --client {_quoted(client)}"}
        raise AccessDenied(_reason(client, image, decision), detail=detail)

    def _match(self, placed: _OrderedRule, route: Route) -> Name | None:
        """The name of the route that the rule matches; None if there is none."""
        requested = Name(route.registry, route.repository)
        if _matches(placed.rule, requested):
            return requested
        if placed.rule.action == "allow":
            return None
        names = self._all_names(route) if placed.names_repositories else [Name(plain_registry(route.registry), "")]
        return next((name for name in names if _matches_any_case(placed.rule, name)), None)

    def _all_names(self, route: Route) -> tuple[Name, ...]:
        key = (route.registry, route.repository)
        names = self._names.get(key)
        if names is None:
            names = self._names[key] = (*own_names(route), *self._aliases.of(route))
        return names


def _denied_registries(config: Config, rules: Iterable[_OrderedRule]) -> list[str]:
    """The registries with denied repositories, and for each pattern a name that it matches (for `"*"`)."""
    patterns = [pattern.lower() for rule in rules if rule.names_repositories for pattern in rule.rule.registries]
    named = [name for name in config.registries if any(covers(pattern, name) for pattern in patterns)]
    return [*named, *(pattern.replace("*", "x") for pattern in patterns)]


def _matches(rule: AccessRule, name: Name) -> bool:
    registry = any(covers(pattern, name.registry) for pattern in rule.registries)
    return registry and any(covers_repository(pattern, name.repository) for pattern in rule.repositories)


def _matches_any_case(rule: AccessRule, name: Name) -> bool:
    """Whether the rule matches the name, ignoring case, because upstream names may contain upper case."""
    registry = any(covers(pattern.lower(), name.registry.lower()) for pattern in rule.registries)
    repository = name.repository.lower()
    return registry and any(covers_repository(pattern.lower(), repository) for pattern in rule.repositories)


def _list(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"[{', '.join(values)}]"


def _reason(client: str, image: str, decision: AccessDecision) -> str:
    """The reason in one line that fits into the status line."""
    place = decision.place.rpartition("/")[2][-MAX_PLACE_LENGTH:]
    why = f"no rule of access at {place} allows it" if decision.text == _NO_RULE else f"denied by the rule at {place}"
    who = _short(_ascii(client), MAX_CLIENT_LENGTH)
    room = REASON_LIMIT - len(f"{who} may not pull : {why}")
    return f"{who} may not pull {_short(image, room)}: {_ascii(why)}"


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _ascii(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _quoted(client: str) -> str:
    """The client's name for a command line."""
    return shlex.quote(_ascii(client))
