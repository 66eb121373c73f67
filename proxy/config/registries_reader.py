"""Values of a registries.yaml, taken as Go's yaml.v2 takes them: unknown keys are ignored, wrong types are errors."""

from collections.abc import Collection
from dataclasses import dataclass

from proxy.config.findings import Findings
from proxy.config.naming import quoted_key, suggestion
from proxy.config.positions import KeyPath
from proxy.config.yaml_values import PlainWord, Value


@dataclass(frozen=True, slots=True)
class Reader:
    """Takes typed values out of a document and reports what does not fit."""

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
        """Text; numbers and words are taken as they are written, nothing is the empty text."""
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
                self.findings.warning_at_key((*path, key), f"{name}, k3s ignores it{advice}")


_OFTEN_MEANT = {"token": "identity_token", "endpoints": "endpoint", "rewrites": "rewrite", "registries": "mirrors"}
