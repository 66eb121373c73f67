"""A challenge as containerd 1.7 reads it: one per header line, names in lower case, stops at what is malformed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf"\s*({_TOKEN})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}))\s*(,|$)")
_ORDER = ("bearer", "digest", "basic")


@dataclass(frozen=True, slots=True)
class NodeChallenge:
    """One challenge: its scheme in lower case and its parameters."""

    scheme: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """A parameter, or the empty string."""
        return dict(self.parameters).get(name, "")


def read_challenges(lines: Iterable[str]) -> list[NodeChallenge]:
    """The challenges that containerd knows, bearer before digest before basic."""
    found = [_read(line) for line in lines]
    return sorted((one for one in found if one.scheme in _ORDER), key=lambda one: _ORDER.index(one.scheme))


def _read(line: str) -> NodeChallenge:
    scheme, _, rest = line.strip().partition(" ")
    parameters: dict[str, str] = {}
    at = 0
    while match := _PARAMETER.match(rest, at):
        quoted = match[2]
        parameters[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        at = match.end()
        if not match[4]:
            break
    return NodeChallenge(scheme.lower(), tuple(parameters.items()))
