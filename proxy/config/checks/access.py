"""What access rules have wrong: rules that never match, patterns that are none, lists that allow nothing."""

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
"""`repositories` patterns of all rules together: each request is held against them."""
MAX_COMPARED = 100
"""Rules that are compared with each other."""

_ANONYMOUS = "anonymous"
_ASKED = re.compile(r"[a-z0-9._*-]+(?:/[a-z0-9._*-]+)*")
_UPSTREAM = re.compile(r"[A-Za-z0-9._~*-]+(?:/[A-Za-z0-9._~*-]+)*")
_WILDCARDS = re.compile(r"/\*\*|\*\*|\*")
_DEPTHS = (0, 1, 9)
_GRAMMAR = (
    "a repository is a path of lower-case names without registry, tag and digest; * stands for one segment and ** for "
    "any number"
)


def check_access(config: Config, findings: Findings) -> None:
    """Report what is wrong with the access rules, or probably not meant."""
    rules = config.access
    if sum(len(rule.repositories) for rule in rules) > MAX_PATTERNS:
        findings.error(("access",), f"the rules have more than {MAX_PATTERNS} repositories: say more with * and **")
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
            "what no rule allows is denied, and no rule allows anything: end with an allow rule, {action: allow}",
        )


def _check_registries(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    for index, pattern in enumerate(rule.registries):
        meant = _spelling(pattern)
        if meant != pattern.lower():
            advice = f"write {meant}" if meant else "write a lower-case host or host:port, * for any part of it"
            findings.error((*path, "registries", index), f"{pattern!r} is the name of no registry: {advice}")
    if ANY in config.registries:
        return
    for index, pattern in enumerate(rule.registries):
        if pattern != ANY and not any(covers(pattern, name) for name in config.registries):
            meant = suggestion(pattern, config.registries)
            advice = f"did you mean {meant}?" if meant else "add it under registries, or leave it out"
            findings.warning((*path, "registries", index), f"no configured registry is {pattern!r}: {advice}")


def _spelling(pattern: str) -> str | None:
    """A pattern of registries as their names are written; None for what can be the pattern of no name."""
    try:
        return pattern.lower() if "*" in pattern else canonical_registry(pattern)
    except ValueError:
        return None


def _check_repositories(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    for index, pattern in enumerate(rule.repositories):
        where: KeyPath = (*path, "repositories", index)
        if rule.action == "deny" and not _UPSTREAM.fullmatch(pattern):
            findings.error(where, f"{pattern!r} denies nothing: {_GRAMMAR}")
        elif rule.action == "allow" and not _ASKED.fullmatch(pattern):
            findings.warning(where, f"{pattern!r} allows nothing: {_GRAMMAR}")
        elif (first := pattern.partition("/")[0]) in config.registries and first not in _upstream_beginnings(config):
            findings.warning(where, f"{first} is a registry: write registries: {first}, and the repository without it")
        elif rule.action == "allow" and DOCKER_HUB in rule.registries and "/" not in pattern and "**" not in pattern:
            findings.warning(
                where, f"official images of {DOCKER_HUB} are asked for as library/...: write library/{pattern}"
            )


def _upstream_beginnings(config: Config) -> set[str]:
    """First segments of names upstream, as endpoints and rewrites make them."""
    texts = [endpoint.address.repository_prefix for entry in config.registries.values() for endpoint in entry.endpoints]
    texts += [rule.literal_prefix for entry in config.registries.values() for _, rule in _rewrites(entry)]
    return {text.strip("/").partition("/")[0] for text in texts}


def _check_clients(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    if any(covers(pattern, _ANONYMOUS) for pattern in rule.clients):
        return
    where: KeyPath = (*path, "clients")
    if all(set(listener.clients.auth) == {"none"} for listener in config.listeners):
        findings.warning(
            where, f"this rule never matches: no listener asks clients who they are, so that all are {_ANONYMOUS}"
        )
    elif any(listener.clients.asks_upstream for listener in config.listeners):
        findings.info(
            where,
            "with auth: upstream a client's name is the user name that it sends, and some registries take any user "
            "name with a token: such a name proves nothing",
        )


def _check_rewrites(config: Config, rule: AccessRule, path: KeyPath, findings: Findings) -> None:
    """Tell where a denied repository could be asked for by its name upstream without this being noticed."""
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
                f"the rewrite rule at {place} cannot be read backwards: who asks for its result by that name is not "
                "noticed. Deny the name upstream as well",
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
                    f"the rule at {place} comes first and covers all that this one names: put the narrower rule first",
                )
                break


def _covers_rule(earlier: AccessRule, later: AccessRule) -> bool:
    """Whether the earlier rule matches whatever the later one is written for."""
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
    """A repository that a pattern is for; `?` stands for text that no other pattern has literally."""
    filling = {"*": "?", "**": "/".join("?" * depth), "/**": "/?" * depth}
    return _WILDCARDS.sub(lambda match: filling[match[0]], pattern)
