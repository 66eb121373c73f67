from tests.fakes.fixtures import (
    budgets,
    image,
    logs,
    near_plain,
    never,
    node,
    plain,
    registry,
    second,
    store,
    with_and_without_cache,
)
from tests.fakes.tls_site import site

__all__ = [
    "budgets",
    "image",
    "logs",
    "near_plain",
    "never",
    "node",
    "plain",
    "registry",
    "second",
    "site",
    "store",
    "with_and_without_cache",
]
