"""Reads values of a registries.yaml as Go's yaml.v2 does, and fixes keys that never match."""

from collections.abc import Collection
from dataclasses import dataclass

from proxy.config.address import EndpointAddress
from proxy.config.errors import Findings, KeyPath, Note, quoted_key, suggestion
from proxy.config.model import ANY
from proxy.config.reading.yaml_values import Document, PlainWord, Value

_SECTIONS = ("mirrors", "configs")


def right_name(name: str) -> str | None:
    """The key under which a name would be found; None if it is not a host."""
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
    """Move entries under keys that never match to the right key, where that is free; returns a note for each."""
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
        message = f"nothing ever matched the key {quoted_key(name)}, so k3s did not use it; it is used as {right!r}"
        notes.append(Note("warning", document.places[section, name].key, message))
        _move_places(document, (section, name), (section, right))
        repaired[right] = value
    return repaired


def _move_places(document: Document, old: tuple[str, str], new: tuple[str, str]) -> None:
    for path in [path for path in document.places if path[:2] == old]:
        document.places[*new, *path[2:]] = document.places.pop(path)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads typed values from a document and reports invalid ones."""

    findings: Findings

    def section(self, path: KeyPath, value: Value, known: Collection[str] | None = None) -> dict[str, Value]:
        """The entries of a map; keys that are not `known` are reported, as k3s ignores them."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.findings.error(path, "a map (key: value) is expected here: k3s refuses the file as well")
            return {}
        if known is not None:
            self._report_unknown(path, value, known)
        return value

    def text(self, path: KeyPath, value: Value) -> str:
        """Text; numbers and words as written, an empty value as empty text."""
        if isinstance(value, dict | list):
            self.findings.error(path, "text is expected here: k3s refuses the file as well")
        return str(value) if isinstance(value, str) else ""

    def texts(self, path: KeyPath, value: Value) -> list[str]:
        """A list of text."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.findings.error(path, "a list is expected here (- value): k3s refuses the file as well")
            return []
        return [self.text((*path, index), item) for index, item in enumerate(value)]

    def boolean(self, path: KeyPath, value: Value) -> bool:
        """A boolean as YAML 1.1 knows it: true, yes, on and their opposites, without quotes."""
        if isinstance(value, PlainWord):
            return value.boolean
        if value is not None:
            self.findings.error(path, "true or false, without quotes, is expected here: k3s refuses the file as well")
        return False

    def _report_unknown(self, path: KeyPath, value: dict[str, Value], known: Collection[str]) -> None:
        for key in value:
            if key not in known:
                secret = path[-1:] == ("auth",)
                meant = suggestion(key, known) or _OFTEN_MEANT.get(key)
                name = "unknown key" if secret and meant is None else f"unknown key {quoted_key(key)}"
                advice = f": did you mean {meant!r}?" if meant else ""
                if path == () and key == "version":
                    advice = ": if this is a configuration of scope-proxy, use --config"
                self.findings.warning_at_key((*path, key), f"{name}, k3s ignores it{advice}")


_OFTEN_MEANT = {"token": "identity_token", "endpoints": "endpoint", "rewrites": "rewrite", "registries": "mirrors"}
