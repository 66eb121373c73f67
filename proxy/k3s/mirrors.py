"""`mirrors` of a registries.yaml: endpoints as k3s normalises them, rules in an order that k3s does not have."""

import re
from dataclasses import dataclass

from proxy.config.address import EndpointAddress, default_endpoint
from proxy.config.checks.rules import template_problems
from proxy.config.errors import Findings, KeyPath
from proxy.config.model import ANY, Rewrite
from proxy.config.reading.yaml_values import Value
from proxy.k3s.reader import Reader
from proxy.rules.rewrite_rule import RewriteRule

LAST_HOST = "after all endpoints, containerd would request the original name from"
"""Start of the note that rewritten names are not pulled from the registry itself."""

_LITERAL = re.compile(r"(?:[\w/ :,;=@~&%#!<>'\"-]|\[[.\w/-]\]|\\[^\w])+")
_LAST = re.compile(r"(?:\[.\]|\\.|.)$")
_STANDARD_PORT = re.compile(r":(443|80)$")


@dataclass(frozen=True, slots=True)
class MirrorEndpoint:
    """One endpoint and the place in the file that it comes from."""

    address: EndpointAddress
    source: KeyPath
    rewritten: bool
    """Whether the rules of the mirror are for it: k3s never rewrites at the registry itself."""
    forward_namespace: bool


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """One rule and the place in the file that it comes from."""

    rewrite: Rewrite
    source: KeyPath


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror as read."""

    endpoints: tuple[MirrorEndpoint, ...]
    rules: tuple[MirrorRule, ...]


def read_mirror(reader: Reader, name: str, value: Value) -> Mirror:
    """Read one entry of `mirrors`; what k3s would not do is left out, and reported."""
    path: KeyPath = ("mirrors", name)
    section = reader.section(path, value, ("endpoint", "rewrite"))
    rules = _rules(reader, (*path, "rewrite"), section.get("rewrite"))
    endpoints = _endpoints(reader, name, section.get("endpoint"), rewriting=bool(rules))
    if rules and not endpoints:
        reader.findings.warning(
            (*path, "rewrite"),
            "k3s never rewrites where no endpoint is given, nor does scope-proxy: list the endpoint"
            + ("" if name == ANY else f", for the registry itself as https://{name}:443"),
        )
        rules = ()
    if endpoints and name != ANY:
        endpoints = _with_default(reader.findings, name, endpoints, rewriting=bool(rules))
    return Mirror(tuple(endpoints), rules)


def _endpoints(reader: Reader, name: str, value: Value, *, rewriting: bool) -> list[MirrorEndpoint]:
    path: KeyPath = ("mirrors", name, "endpoint")
    texts = reader.texts(path, value)
    endpoints: list[MirrorEndpoint] = []
    seen: set[str] = set()
    for index, text in enumerate(texts):
        where: KeyPath = (*path, index)
        try:
            address = EndpointAddress.parse_loose(text.strip())
        except ValueError as error:
            reader.findings.warning(where, f"this endpoint is left out: {error}")
            continue
        key = f"{address}{_written_port(text)}"
        if key in seen:
            reader.findings.warning(where, f"{address} is listed twice: the second one is left out, as k3s does")
            continue
        seen.add(key)
        itself = name != ANY and index == len(texts) - 1 and _is_default(name, address, text)
        if itself and rewriting:
            reader.findings.warning(
                where,
                f"k3s does not rewrite at the registry itself, nor does scope-proxy: write {address.origin}:"
                f"{address.origin.port} if the rules are for this endpoint",
            )
        forward = not _is_host_of(name, address)
        endpoints.append(MirrorEndpoint(address, where, rewritten=not itself, forward_namespace=forward))
    return endpoints


def _written_port(text: str) -> str:
    """A port that the scheme has anyway, if it is written: for k3s that makes another endpoint."""
    match = _STANDARD_PORT.search(text.partition("://")[2].split("/", 1)[0])
    return match[0] if match else ""


def _is_default(name: str, address: EndpointAddress, text: str) -> bool:
    return address == default_endpoint(name) and not _written_port(text)


def _is_host_of(name: str, address: EndpointAddress) -> bool:
    """Whether the endpoint is the registry's own host, to which containerd sends no `ns=`."""
    return address.origin == _default_origin(name)


def _default_origin(name: str) -> object:
    return None if name == ANY else default_endpoint(name).origin


def _with_default(
    findings: Findings, name: str, endpoints: list[MirrorEndpoint], *, rewriting: bool
) -> list[MirrorEndpoint]:
    """Add the registry itself as the last endpoint, which containerd tries as well; not where names are rewritten."""
    default = default_endpoint(name)
    if any(endpoint.address == default for endpoint in endpoints):
        return endpoints
    path: KeyPath = ("mirrors", name)
    if rewriting:
        findings.info(
            path,
            f"{LAST_HOST} {default.origin}; scope-proxy does not",
        )
        return endpoints
    findings.info(path, f"{default.origin} is added as the last endpoint, as containerd tries the registry itself")
    return [*endpoints, MirrorEndpoint(default, path, rewritten=False, forward_namespace=False)]


def _rules(reader: Reader, path: KeyPath, value: Value) -> tuple[MirrorRule, ...]:
    rules: list[MirrorRule] = []
    for pattern, replacement in reader.section(path, value).items():
        where: KeyPath = (*path, pattern)
        template = reader.text(where, replacement)
        try:
            rule = RewriteRule.compile(pattern, template)
        except ValueError as error:
            reader.findings.warning_at_key(where, f"this rule is left out, as k3s skips it: {error}")
            continue
        for message in template_problems(rule):
            reader.findings.warning(where, message)
        if breaks_hosts_toml(pattern, template):
            reader.findings.warning_at_key(where, BREAKS_HOSTS_TOML)
        rules.append(MirrorRule(Rewrite(pattern=pattern, replacement=template), where))
    # Stable, so that rules of one length stay in the order of the file.
    return tuple(sorted(rules, key=lambda rule: -literal_length(rule.rewrite.pattern)))


BREAKS_HOSTS_TOML = (
    "k3s prints this rule unescaped into hosts.toml, and containerd ignores the whole file then; here it works. "
    r"For nodes write [.] for \. and [0-9] for \d"
)
"""The warning about a rule with a backslash or a quotation mark."""


def breaks_hosts_toml(pattern: str, template: str) -> bool:
    """Whether k3s writes the rule into a hosts.toml that containerd cannot parse."""
    return bool(set('\\"') & set(pattern + template))


def literal_length(pattern: str) -> int:
    """Length of the literal beginning of a pattern: the longer, the more specific."""
    match = _LITERAL.match(pattern.removeprefix("^"))
    if match is None:
        return 0
    literal = match[0]
    following = pattern.removeprefix("^")[len(literal) :]
    if following[:1] in {"*", "?", "{"}:  # the last character may be missing
        literal = _LAST.sub("", literal)
    return len(re.sub(r"\[(.)\]|\\(.)", "x", literal))
