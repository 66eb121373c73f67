"""The secrets of a registries.yaml: found where they stand, and hidden."""

from collections.abc import Iterator

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.config.yaml_nodes import compose
from proxy.convert.node_lines import last_line

HIDDEN = "<secret>"
"""What is shown in place of a secret."""
_SECTIONS = {"auth", "auths"}
_SECRETS = {"password", "auth", "identity_token", "identitytoken", "token", "registrytoken"}
_OPEN = {"username"}


def secret_values(text: str, file: str) -> set[str]:
    """Every value that has to stay out of sight; raises ConfigError."""
    return {str(node.value) for node in _found(text, file) if node.value}


def masked(text: str, file: str) -> str:
    """The file with its secrets hidden, wherever they stand in it; raises ConfigError."""
    lines = text.splitlines()
    nodes = list(_found(text, file))
    for node in sorted(nodes, key=lambda node: (node.start_mark.line, node.start_mark.column), reverse=True):
        first, last = node.start_mark.line, last_line(node)
        after = lines[last][node.end_mark.column :] if last == node.end_mark.line else ""
        lines[first : last + 1] = [f"{lines[first][: node.start_mark.column]}{HIDDEN}{after}"]
    shown = "\n".join([*lines, ""])
    for value in sorted({str(node.value) for node in nodes if node.value}, key=len, reverse=True):
        shown = shown.replace(value, HIDDEN)  # in comments
    return shown


def _found(text: str, file: str) -> Iterator[ScalarNode]:
    root = compose(text, file, "1.1")
    found = {id(node): node for node in ([] if root is None else _secrets(root, is_inside=False))}
    yield from found.values()  # an alias is the node that it stands for


def _secrets(node: Node, *, is_inside: bool) -> Iterator[ScalarNode]:
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _secrets(item, is_inside=is_inside)
        return
    for key, value in node.value if isinstance(node, MappingNode) else ():
        name = str(key.value).lower()
        if not isinstance(value, ScalarNode):
            yield from _secrets(value, is_inside=is_inside or name in _SECTIONS)
        elif name in _SECRETS or (is_inside and name not in _OPEN):
            yield value
