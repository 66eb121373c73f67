"""What a repository's tags and links are kept under."""

from proxy.routing.table import Route
from proxy.store.tags import RepositoryKey


def repository_key(route: Route) -> RepositoryKey:
    """The registry and the repository as each endpoint knows it: after a changed rule it is another repository."""
    return RepositoryKey(route.registry, tuple(target.repository for target in route.targets))
