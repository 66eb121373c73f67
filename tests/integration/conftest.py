from tests.fakes.fixtures import image, logs, node, registry

__all__ = ["image", "logs", "node", "registry"]
