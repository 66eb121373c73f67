"""Checks access rules: rules that never match, invalid patterns, lists that allow nothing."""

import re
from collections.abc import Iterator, Sequence

from proxy.config.address import canonical_registry
from proxy.config.errors import Findings, KeyPath, suggestion
from proxy.config.listener import AccessRule
from proxy.config.model import ANY, Config, Registry, Rewrite
from proxy.oci.reference import DOCKER_HUB
from proxy.rules.inverse import Inverse
from proxy.rules.patterns import covers, covers_repository
from proxy.rules.rewrite_rule import RewriteRule

MAX_PATTERNS = 1000
"""Maximum number of `repositories` patterns of all rules together: each request may be matched with all of them."""
MAX_COMPARED = 100
"""Maximum number of rules that are compared with each other."""

_ANONYMOUS = "anonymous"
_REQUESTED = re.compile(r"[a-z0-9._*-]+(?:/[a-z0-9._*-]+)*")
_UPSTREAM = re.compile(r"[A-Za-z0-9._~*-]+(?:/[A-Za-z0-9._~*-]+)*")
_WILDCARDS = re.compile(r"/\*\*|\*\*|\*")
_DEPTHS = (0, 1, 9)
_GRAMMAR = (
    "a repository is a path of lower-case names without registry, tag and digest; * matches one segment and ** any "
    "number of segments"
)


def check_access(config: Config, findings: Findings) -> None:
    """Report errors and probable mistakes in the access rules."""
    rules = config.access
    if sum(len(rule.repositories) for rule in rules) > MAX_PATTERNS:
        findings.error(
            ("access",), f"the rules have more than {MAX_PATTERNS} repositories: use * and ** to write fewer"
        )
        return
    for index, rule in enumerate(rules):
        path: KeyPath = ("access", index)
        _check_registries(config, rule, path, findings)
        _check_repositories(config, rule, path, findings)
        _check_clients(config, rule, path, findings)
        _check_rewrites(config, rule, path, findings)
    _check_order(rules[:MAX_COMPARED], findings)
    if rules and all(rule.action == "deny" for rule in rules):
        findings.warning(
            ("access",),
            "these rules deny every pull, because none allows one: add an allow rule at the end, {action: allow}",
        )


def _check_registries(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    for index, pattern in enumerate(rule.registries):
        meant = _spelling(pattern)
        if meant != pattern.lower():
            advice = f"write {meant}" if meant else "write a lower-case host or host:port, * for any part of it"
            findings.error((*path, "registries", index), f"{pattern!r} is not the name of a registry: {advice}")
    if ANY in config.registries:
        return
    for index, pattern in enumerate(rule.registries):
        if pattern != ANY and not any(covers(pattern, name) for name in config.registries):
            meant = suggestion(pattern, config.registries)
            advice = f"did you mean {meant}?" if meant else "add it under registries, or leave it out"
            findings.warning((*path, "registries", index), f"{pattern!r} matches no configured registry: {advice}")


def _spelling(pattern: str) -> str | None:
    """A pattern of registries in canonical spelling; None if it is invalid."""
    try:
        return pattern.lower() if "*" in pattern else canonical_registry(pattern)
    except ValueError:
        return None


def _check_repositories(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    for index, pattern in enumerate(rule.repositories):
        where: KeyPath = (*path, "repositories", index)
        if rule.action == "deny" and not _UPSTREAM.fullmatch(pattern):
            findings.error(where, f"{pattern!r} denies nothing: {_GRAMMAR}")
        elif rule.action == "allow" and not _REQUESTED.fullmatch(pattern):
            findings.warning(where, f"{pattern!r} allows nothing: {_GRAMMAR}")
        elif (first := pattern.partition("/")[0]) in config.registries and first not in _upstream_beginnings(config):
            findings.warning(where, f"{first} is a registry: write registries: {first}, and the repository without it")
        elif rule.action == "allow" and DOCKER_HUB in rule.registries and "/" not in pattern and "**" not in pattern:
            findings.warning(
                where, f"nodes request official images of {DOCKER_HUB} as library/...: write library/{pattern}"
            )


def _upstream_beginnings(config: Config) -> set[str]:
    """The first segments of upstream repositories that result from endpoints and rewrites."""
    texts = [endpoint.address.repository_prefix for entry in config.registries.values() for endpoint in entry.endpoints]
    texts += [rule.literal_prefix for entry in config.registries.values() for _, rule in _rewrites(entry)]
    return {text.strip("/").partition("/")[0] for text in texts}


def _check_clients(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    if any(covers(pattern, _ANONYMOUS) for pattern in rule.clients):
        return
    where: KeyPath = (*path, "clients")
    if all(set(listener.clients.auth) == {"none"} for listener in config.listeners):
        findings.warning(
            where, f"this rule never matches: no listener authenticates clients, so all of them are {_ANONYMOUS}"
        )
    elif any(listener.clients.asks_upstream for listener in config.listeners):
        findings.info(
            where,
            "with auth: upstream the client chooses its user name, and some registries accept any user name with a "
            "token: do not rely on client names",
        )


def _check_rewrites(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    """Report rewrite rules because of which a denied repository may be pulled by its upstream name."""
    if rule.action != "deny" or "**" in rule.repositories:
        return
    for name, entry in config.registries.items():
        if name != ANY and not any(covers(pattern, name) for pattern in rule.registries):
            continue
        lost = [where for where, rewrite in _rewrites(entry) if Inverse.of(rewrite) is None]
        if lost:
            place = findings.positions.at("registries", name, *lost[0])
            findings.info(
                path,
                f"the rewrite rule at {place} cannot be inverted, so this rule does not deny a pull by the upstream "
                "name: deny the upstream name as well",
            )


def _rewrites(entry: Registry) -> Iterator[tuple[KeyPath, RewriteRule]]:
    lists: list[tuple[KeyPath, Sequence[Rewrite]]] = [(("rewrites",), entry.rewrites)]
    lists += [(("endpoints", number, "rewrites"), each.rewrites or ()) for number, each in enumerate(entry.endpoints)]
    for path, rewrites in lists:
        for index, rewrite in enumerate(rewrites):
            yield (*path, index), RewriteRule.compile(rewrite.pattern, rewrite.replacement)


def _check_order(rules: Sequence[AccessRule], findings: Findings) -> None:
    for later, rule in enumerate(rules):
        for earlier in range(later):
            if _covers_rule(rules[earlier], rule):
                place = findings.positions.at("access", earlier)
                findings.warning(
                    ("access", later),
                    f"this rule is never used: the rule at {place} comes first and wins; put the narrower rule first",
                )
                break


def _covers_rule(earlier: AccessRule, later: AccessRule) -> bool:
    """Whether the earlier rule matches everything that the later one matches, as far as samples show."""
    return (
        all(any(covers(pattern, name) for pattern in earlier.registries) for name in later.registries)
        and all(
            any(_covers_repositories(pattern, each) for pattern in earlier.repositories) for each in later.repositories
        )
        and all(any(covers(pattern, name) for pattern in earlier.clients) for name in later.clients)
    )


def _covers_repositories(earlier: str, later: str) -> bool:
    return all(covers_repository(earlier, _sample(later, depth)) for depth in _DEPTHS)


def _sample(pattern: str, depth: int) -> str:
    """A repository that a pattern matches; `?` is text that no pattern contains."""
    filling = {"*": "?", "**": "/".join("?" * depth), "/**": "/?" * depth}
    return _WILDCARDS.sub(lambda match: filling[match[0]], pattern)
