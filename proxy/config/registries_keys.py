"""Keys of a registries.yaml that nothing ever matches, and the keys that were probably meant."""

from proxy.config.address import EndpointAddress
from proxy.config.errors import Note
from proxy.config.model import ANY
from proxy.config.naming import quoted_key
from proxy.config.yaml_values import Document, Value

_SECTIONS = ("mirrors", "configs")


def right_name(name: str) -> str | None:
    """The key under which a name would be found; None if it is no host at all."""
    if name == ANY:
        return name
    try:
        address = EndpointAddress.parse_loose(name.strip().lower())
    except ValueError:
        return None
    host, port = address.origin.authority_host, address.origin.port
    plain = name.strip().lower().partition("://")[2] or name.strip().lower()
    return f"{host}:{port}" if plain.split("/", 1)[0] == f"{host}:{port}" else address.origin.authority


def repair_keys(document: Document) -> list[Note]:
    """Put what stands under a key that nothing matches under the right one, where that is free; what was done."""
    if not isinstance(document.value, dict):
        return []
    notes: list[Note] = []
    for section in _SECTIONS:
        entries = document.value.get(section)
        if isinstance(entries, dict):
            document.value[section] = _repaired(document, section, entries, notes)
    return notes


def _repaired(document: Document, section: str, entries: dict[str, Value], notes: list[Note]) -> dict[str, Value]:
    repaired: dict[str, Value] = {}
    for name, value in entries.items():
        right = right_name(name)
        if right is None or right == name or right in entries or right in repaired:
            repaired[name] = value
            continue
        message = f"nothing ever matched the key {quoted_key(name)}, so k3s did not use it; it is taken as {right!r}"
        notes.append(Note("warning", document.places[section, name].key, message))
        _move_places(document, (section, name), (section, right))
        repaired[right] = value
    return repaired


def _move_places(document: Document, old: tuple[str, str], new: tuple[str, str]) -> None:
    for path in [path for path in document.places if path[:2] == old]:
        document.places[*new, *path[2:]] = document.places.pop(path)
