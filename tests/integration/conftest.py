from tests.fakes.fixtures import budgets, image, logs, never, node, plain, registry, with_and_without_cache
from tests.fakes.tls_site import site

__all__ = ["budgets", "image", "logs", "never", "node", "plain", "registry", "site", "with_and_without_cache"]
