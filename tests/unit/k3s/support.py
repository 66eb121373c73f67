"""Conversions of texts."""

from proxy.k3s.conversion import convert
from proxy.k3s.result import Conversion, Settings

PROXY = "http://127.0.0.1:5000"


def converted(text: str, settings: Settings | None = None) -> Conversion:
    return convert(text, "r", settings or Settings())


def notes_of(conversion: Conversion, kind: str) -> str:
    """All lines of a kind."""
    return "\n".join(str(change) for change in conversion.changes if change.kind == kind)
