"""Other names of what a route leads to: rules that deny a repository look at all of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.config.address import EndpointAddress, default_endpoint
from proxy.config.model import ANY, Config, Registry, Rewrite
from proxy.config.rewrite_inverse import Inverse
from proxy.config.rewrite_rule import RewriteRule
from proxy.oci.errors import RegistryError
from proxy.oci.reference import DOCKER_HUB, HUB_NAMES, canonical_repository
from proxy.routing.table import Places, Route, RouteTable, Target

_STANDARD_PORTS = (":443", ":80")
_HUB_SERVERS = frozenset({"registry-1.docker.io", "index.docker.io"})
_HUB_SERVER = "registry-1.docker.io"
_LIBRARY = "library/"


@dataclass(frozen=True, slots=True)
class Name:
    """A repository as somebody may call it."""

    registry: str
    repository: str

    def __str__(self) -> str:
        """The name without a tag; the registry alone where that is meant."""
        return f"{self.registry}/{self.repository}".rstrip("/")


@dataclass(frozen=True, slots=True)
class _Entrance:
    """A registry that can be named, one of its endpoints, and its rules read backwards."""

    registry: str
    endpoint: EndpointAddress
    rules: tuple[Inverse, ...]


class Aliases:
    """The names by which some registries give access to the same repositories upstream."""

    def __init__(self, config: Config, places: Places, registries: Iterable[str]) -> None:
        self._table = RouteTable(config, places)
        self._entrances = tuple(_entrances(config, dict.fromkeys(registries)))

    def of(self, route: Route) -> tuple[Name, ...]:
        """The names under which one of the route's repositories can be asked for, and stands upstream."""
        return tuple(dict.fromkeys(name for target in route.targets for name in self._of_target(target)))

    def _of_target(self, target: Target) -> Iterator[Name]:
        address, namespace = _address(target), _namespace(target)
        for entrance in self._entrances:
            root = f"{_server(entrance.endpoint)}{entrance.endpoint.root}/"
            if not address.startswith(root):
                continue
            # Mirrors of Docker Hub may take an official image with and without library/.
            path = canonical_repository(entrance.registry, address.removeprefix(root))
            asked = (path, *(candidate for rule in entrance.rules for candidate in rule.candidates(path)))
            wanted = (f"{root}{path}", namespace)
            found = [name for name in dict.fromkeys(asked) if self._leads(entrance.registry, name, wanted)]
            # What the registry calls it upstream is a name of it too: a rule may be written with that.
            upstream = (path, entrance.endpoint.repository(path)) if found else ()
            for name in (*found, *upstream):
                yield from _called(entrance.registry, name)

    def _leads(self, registry: str, name: str, wanted: tuple[str, str | None]) -> bool:
        """Whether a pull of the name goes where it is wanted: asked of the very table that a pull asks."""
        try:
            route = self._table.resolve(name, namespace=registry)
        except RegistryError:
            return False
        return any((_address(target), _namespace(target)) == wanted for target in route.targets)


def own_names(route: Route) -> tuple[Name, ...]:
    """What the route itself is called: as it was asked for, in short at Docker Hub, and upstream."""
    upstream = (name for target in route.targets for name in (target.path, target.repository))
    called = (name for each in (route.repository, *upstream) for name in _called(route.registry, each))
    return tuple(dict.fromkeys(called))


def plain_registry(registry: str) -> str:
    """The one name of a registry that has several: without its scheme's own port, and Docker Hub's common one."""
    for port in _STANDARD_PORTS:
        registry = registry.removesuffix(port)
    return DOCKER_HUB if registry in HUB_NAMES else registry


def _called(registry: str, repository: str) -> Iterator[Name]:
    """A repository under the plain name of its registry, and in short if it is an official one of Docker Hub."""
    plain = plain_registry(registry)
    name = canonical_repository(plain, repository)
    yield Name(plain, name)
    if plain == DOCKER_HUB and name.startswith(_LIBRARY):
        yield Name(plain, name.removeprefix(_LIBRARY))


def _entrances(config: Config, registries: Iterable[str]) -> Iterator[_Entrance]:
    for name in registries:
        entry = config.registries.get(name, config.registries.get(ANY))
        if entry is None:
            continue
        if not entry.endpoints:
            yield _Entrance(name, default_endpoint(name), _inverses(entry.rewrites))
        for endpoint in entry.endpoints:
            yield _Entrance(name, endpoint.address, _inverses(_rules(entry, endpoint.rewrites)))


def _rules(entry: Registry, own: tuple[Rewrite, ...] | None) -> tuple[Rewrite, ...]:
    return entry.rewrites if own is None else own


def _inverses(rewrites: Iterable[Rewrite]) -> tuple[Inverse, ...]:
    compiled = (RewriteRule.compile(rewrite.pattern, rewrite.replacement) for rewrite in rewrites)
    return tuple(inverse for rule in compiled if (inverse := Inverse.of(rule)) is not None)


def _namespace(target: Target) -> str | None:
    """What else makes a repository another one: the registry that the endpoint is told of."""
    return None if target.namespace is None else plain_registry(target.namespace)


def _address(target: Target) -> str:
    """Where the repository is, by one name of its server."""
    server = _server(target.endpoint)
    official = server == _HUB_SERVER and target.endpoint.repository_prefix == "" and "/" not in target.path
    return f"{server}{target.endpoint.root}/{_LIBRARY if official else ''}{target.path}"


def _server(endpoint: EndpointAddress) -> str:
    """Host and port, by whichever scheme and name it is reached."""
    authority = endpoint.origin.authority.lower().rstrip(".")
    return _HUB_SERVER if authority in _HUB_SERVERS else authority
