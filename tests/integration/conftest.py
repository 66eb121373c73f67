from tests.fakes.fixtures import budgets, image, logs, never, node, registry, with_and_without_cache

__all__ = ["budgets", "image", "logs", "never", "node", "registry", "with_and_without_cache"]
