"""A k3s or RKE2 `registries.yaml`, unchanged, as a configuration; it is read as its own reader reads it."""

from pathlib import Path

from proxy.config.address import API_ROOT
from proxy.config.checks.rules import compare_rules
from proxy.config.checks.validate import validate_servers
from proxy.config.errors import ConfigError, Findings, KeyPath, Note, Place, Positions, Problem, quoted_key
from proxy.config.files import read_source
from proxy.config.load import Loaded
from proxy.config.model import ANY, Registry
from proxy.config.reading.shape import shape
from proxy.config.reading.yaml_values import Document, read_document
from proxy.k3s.configs import Settings, read_host
from proxy.k3s.mirrors import Mirror, MirrorEndpoint, read_mirror
from proxy.k3s.reader import Reader, right_name

EMPTY_WILDCARD = '"*" without an endpoint does nothing'
"""Start of the warning about such an entry."""

_SECTIONS = ("mirrors", "configs", "auths")


def import_registries(path: Path) -> Loaded:
    """Read a registries.yaml; positions point into it. Raises ConfigError with every problem."""
    return parse_registries(read_source(path), str(path))


def parse_registries(text: str, file: str) -> Loaded:
    """Read a registries.yaml from its text; `file` is what messages call it. Raises ConfigError."""
    return import_document(read_document(text, file, version="1.1", keep="last"))


def import_document(document: Document, listen: str | None = None) -> Loaded:
    """Import a registries.yaml; `listen` is the address on which the proxy listens. Raises ConfigError."""
    importer = _Importer(document)
    importer.run()
    return importer.loaded(listen)


class _Importer:
    """Imports a registries.yaml entry by entry, with the position of each."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._findings = Findings(document.positions)
        self._reader = Reader(self._findings)
        self._places: dict[KeyPath, Place] = {}
        self._registries: Settings = {}
        self._hosts: Settings = {}

    def run(self) -> None:
        """Read all sections."""
        root = self._reader.section((), self._document.value, _SECTIONS)
        if not root:
            self._findings.warning((), "the file names no registries")
        if "auths" in root:
            self._findings.warning_at_key(("auths",), "auths is ignored, as by k3s: use configs.<host>.auth")
        for name, value in self._reader.section(("mirrors",), root.get("mirrors")).items():
            if self._is_usable(("mirrors", name), name):
                self._add_mirror(name, read_mirror(self._reader, name, value))
        for name, value in self._reader.section(("configs",), root.get("configs")).items():
            if self._is_usable(("configs", name), name):
                self._add_host(name, read_host(self._reader, name, value))

    def loaded(self, listen: str | None = None) -> Loaded:
        """The configuration; raises ConfigError."""
        positions = Positions(self._document.file, self._places)
        value: Settings = {"version": 1, "registries": self._registries, "hosts": self._hosts}
        if listen is not None:
            value["listeners"] = [{"address": listen}]
        shaped = shape(value, positions)
        problems = [*self._document.problems, *self._findings.problems, *shaped.problems]
        if problems or shaped.config is None:
            raise ConfigError(problems)
        findings = Findings(positions)
        validate_servers(shaped.config, findings)
        for name, registry in shaped.config.registries.items():
            self._compare(name, registry, findings)
        self._findings.notes += [*findings.notes, *map(_last_wins, self._document.duplicates)]
        return Loaded(shaped.config, positions, self._findings.sorted_notes())

    def _is_usable(self, path: KeyPath, name: str) -> bool:
        """Whether anything can ever match a key: a host, in lower case, without scheme and path."""
        right = right_name(name)
        if right == name:
            return True
        advice = f": it belongs under {right!r}" if right else ""
        self._findings.warning_at_key(path, f"nothing ever matches the key {quoted_key(name)}{advice}; left out")
        return False

    def _add_mirror(self, name: str, mirror: Mirror) -> None:
        if name == ANY and not mirror.endpoints:
            self._findings.warning_at_key(("mirrors", ANY), f"{EMPTY_WILDCARD}: left out")
            return
        path: KeyPath = ("registries", name)
        self._place(path, ("mirrors", name))
        self._place((*path, "rewrites"), ("mirrors", name, "rewrite"))
        self._place((*path, "endpoints"), ("mirrors", name, "endpoint"))
        for index, endpoint in enumerate(mirror.endpoints):
            self._place((*path, "endpoints", index), endpoint.source)
        for index, rule in enumerate(mirror.rules):
            place = self._document.places[rule.source].key  # the pattern is the key
            self._places[*path, "rewrites", index] = Place(place, place)
        self._registries[name] = {
            "endpoints": [_endpoint(endpoint, rewriting=bool(mirror.rules)) for endpoint in mirror.endpoints],
            "rewrites": [rule.rewrite.model_dump() for rule in mirror.rules],
        }

    def _add_host(self, name: str, host: Settings) -> None:
        path: KeyPath = ("hosts", name)
        self._place(path, ("configs", name))
        self._place((*path, "credentials"), ("configs", name, "auth"))
        self._place((*path, "tls"), ("configs", name, "tls"))
        self._hosts[name] = host

    def _place(self, ours: KeyPath, theirs: KeyPath) -> None:
        if theirs in self._document.places:
            self._places[ours] = self._document.places[theirs]

    def _compare(self, name: str, registry: Registry, findings: Findings) -> None:
        path: KeyPath = ("registries", name, "rewrites")
        if compare_rules(path, registry.rewrites, findings, node_rewrites=registry.node_rewrites):
            order = ", ".join(rewrite.pattern for rewrite in registry.rewrites)
            findings.warning(
                path, f"k3s tries overlapping rules in random order; here the most specific one is first: {order}"
            )


def _endpoint(endpoint: MirrorEndpoint, *, rewriting: bool) -> Settings:
    address = endpoint.address
    url = str(address.origin) if address.root == API_ROOT else str(address)
    settings: Settings = {"url": url, "forwardNamespace": endpoint.forward_namespace}
    if rewriting and not endpoint.rewritten:
        settings["rewrites"] = []
    return settings


def _last_wins(problem: Problem) -> Note:
    return Note("warning", problem.position, problem.message.replace(": remove one", ": the last one counts"))
