from tests.fakes.fixtures import image, logs, never, node, registry, with_and_without_cache

__all__ = ["image", "logs", "never", "node", "registry", "with_and_without_cache"]
