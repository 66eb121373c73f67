"""Small helpers of these tests."""

from textwrap import dedent

from proxy.config.load import Loaded, parse_config
from proxy.routing.table import RouteTable, Target


def loaded(registries: str, rest: str = "") -> Loaded:
    """A configuration of these registries; the text of `registries` begins on line 3 of `c.yaml`."""
    text = dedent(registries).strip("\n")
    indented = "\n".join(f"  {line}" for line in text.splitlines())
    return parse_config(f"version: 1\nregistries:\n{indented}\n{dedent(rest)}", "c.yaml")


def table(registries: str, rest: str = "") -> RouteTable:
    """The route table of these registries."""
    source = loaded(registries, rest)
    return RouteTable(source.config, source.positions)


def only_target(routes: RouteTable, name: str, namespace: str) -> Target:
    """The one target of a name under a registry."""
    (target,) = routes.resolve(name, namespace=namespace).targets
    return target
