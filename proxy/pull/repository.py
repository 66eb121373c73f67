"""What a repository's tags and links are kept under, and for whom something is fetched."""

from dataclasses import dataclass, replace

from proxy.oci.login import ANONYMOUS, PROXY, Caller
from proxy.routing.table import Route
from proxy.store.tags import RepositoryKey


@dataclass(frozen=True, slots=True)
class Starter:
    """For whom something is fetched: what goes wrong is its own trouble, and may be nobody else's."""

    key: RepositoryKey
    identity: str


def repository_key(route: Route) -> RepositoryKey:
    """The registry and the repository as each endpoint knows it: after a changed rule it is another repository.

    For clients with credentials of their own it names the endpoints as well: who may pull a repository of one host has
    shown no right to what another host has under the same name.
    """
    if route.caller.login is None:
        return RepositoryKey(route.registry, tuple(target.repository for target in route.targets))
    return RepositoryKey(route.registry, tuple(target.key for target in route.targets))


def keys_of(route: Route) -> list[RepositoryKey]:
    """Every key under which something of the repository may be kept: the proxy's own, and one for each endpoint."""
    client = Caller(login=ANONYMOUS)
    single = [replace(route, targets=(target,), caller=client) for target in route.targets]
    return [repository_key(item) for item in (replace(route, caller=PROXY), *single)]


def starter_of(route: Route) -> Starter:
    """Who fetches by this route."""
    return Starter(repository_key(route), route.caller.identity)
