"""YAML to models; every error has file, line and column, and all of them are reported at once."""

from pathlib import Path

from proxy.config.errors import ConfigError, Note, Position, Problem
from proxy.config.findings import Findings
from proxy.config.loaded import Loaded
from proxy.config.positions import Positions
from proxy.config.shape import Shaped, shape
from proxy.config.source import read_source
from proxy.config.validate import validate
from proxy.config.yaml_values import Document, read_document

__all__ = ["ConfigError", "Loaded", "Note", "Position", "Positions", "Problem", "load_config", "parse_config"]


def load_config(path: Path) -> Loaded:
    """Read a configuration file; raises ConfigError with every problem."""
    return parse_config(read_source(path), str(path))


def parse_config(text: str, file: str) -> Loaded:
    """Read a configuration from its text; `file` is what messages call it. Raises ConfigError."""
    document = read_document(text, file)
    if document.value is None and not document.problems:
        raise ConfigError([Problem(Position(file), 'the file is empty: the least it needs is "version: 1"')])
    shaped = shape(document.value, document.positions)
    findings = Findings(document.positions)
    if shaped.config is not None:
        validate(shaped.config, findings)
    return _loaded(document, shaped, findings)


def _loaded(document: Document, shaped: Shaped, findings: Findings) -> Loaded:
    problems = [*document.problems, *document.duplicates, *shaped.problems, *findings.problems]
    if problems or shaped.config is None:
        raise ConfigError(problems)
    return Loaded(shaped.config, document.positions, findings.sorted_notes())
