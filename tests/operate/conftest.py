from tests.operate.program import image, program, registry

__all__ = ["image", "program", "registry"]
