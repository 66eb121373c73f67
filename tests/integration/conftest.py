from tests.fakes.fixtures import image, logs, never, node, registry

__all__ = ["image", "logs", "never", "node", "registry"]
