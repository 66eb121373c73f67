"""Checks rewrite rules: missing groups, overlaps, rules that change their own result."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxy.config.errors import Findings, KeyPath
from proxy.config.model import Registry, Rewrite
from proxy.rules.patterns import all_samples
from proxy.rules.rewrite_rule import Reference, RewriteRule, join_path, parse_template

MAX_COMPARED = 64
"""Maximum number of rules of one list that are compared with each other."""

NOT_IDEMPOTENT = "this rule is not idempotent"
"""The beginning of the warning about a rule that changes its own result."""

_BACKSLASH_GROUP = re.compile(r"\\([0-9])")
_NUMBER_FIRST = re.compile(r"([0-9]+)(\w*[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class _Checked:
    rule: RewriteRule
    path: KeyPath


def check_rules(name: str, registry: Registry, findings: Findings) -> None:
    """Report errors and probable mistakes in the rules of a registry and of its endpoints."""
    for path, rewrites in _lists(name, registry):
        rules = _compiled(path, rewrites)
        for placed in rules:
            for message in template_problems(placed.rule):
                findings.error((*placed.path, "replacement"), message)
        compare_rules(path, rewrites, findings, node_rewrites=registry.node_rewrites)


def compare_rules(
    path: KeyPath, rewrites: tuple[Rewrite, ...], findings: Findings, *, node_rewrites: bool = False
) -> bool:
    """Report upper case, overlapping rules and rules that change their own result; returns whether any overlap."""
    compiled = _compiled(path, rewrites)
    for placed in compiled:
        _check_case(placed, findings)
    rules = compiled[:MAX_COMPARED]
    tried = all_samples(placed.rule.pattern for placed in rules)
    if not node_rewrites:
        _check_idempotence(rules, tried, findings)
    return _check_overlaps(rules, tried, findings)


def _compiled(path: KeyPath, rewrites: Sequence[Rewrite]) -> list[_Checked]:
    return [
        _Checked(RewriteRule.compile(rewrite.pattern, rewrite.replacement), (*path, index))
        for index, rewrite in enumerate(rewrites)
    ]


def _lists(name: str, registry: Registry) -> Iterator[tuple[KeyPath, tuple[Rewrite, ...]]]:
    yield ("registries", name, "rewrites"), registry.rewrites
    for index, endpoint in enumerate(registry.endpoints):
        if endpoint.rewrites is not None:
            yield ("registries", name, "endpoints", index, "rewrites"), endpoint.rewrites


def template_problems(rule: RewriteRule) -> Iterator[str]:
    """The errors in a replacement."""
    for reference in rule.unknown_references:
        yield _unknown_group(rule, reference)
    if (match := _BACKSLASH_GROUP.search(rule.replacement)) is not None:
        yield f"{match[0]} is plain text in a Go template: write ${match[1]}"


def _unknown_group(rule: RewriteRule, reference: Reference) -> str:
    if reference.number is not None:
        count = f"{rule.group_count} group{'' if rule.group_count == 1 else 's'}"
        return f"{reference} refers to group {reference.number}, but the pattern has {count}: nothing is inserted"
    trap = _NUMBER_FIRST.fullmatch(reference.name)
    if trap is not None and not reference.braced:
        return f'{reference} means a group named "{reference.name}": write ${{{trap[1]}}}{trap[2]}'
    return f"{reference} refers to a group that the pattern does not have: nothing is inserted"


def _check_case(placed: _Checked, findings: Findings) -> None:
    """Warn about upper case in the literal text of a replacement."""
    replacement = placed.rule.replacement
    parts = parse_template(replacement)
    if all(part == part.lower() for part in parts if isinstance(part, str)):
        return
    lower = "".join(part.lower().replace("$", "$$") if isinstance(part, str) else str(part) for part in parts)
    findings.warning(
        (*placed.path, "replacement"),
        f"{replacement!r} has upper case, which most registries do not accept in a repository: write {lower!r}",
    )


def _check_overlaps(rules: Sequence[_Checked], tried: Sequence[str], findings: Findings) -> bool:
    """Report rules that change what an earlier rule changes, which wins; returns whether there are any."""
    found = False
    changed = [{sample for sample in tried if placed.rule.apply(sample) != sample} for placed in rules]
    for later, placed in enumerate(rules):
        for earlier in range(later):
            both = [sample for sample in tried if sample in changed[later] and sample in changed[earlier]]
            if both:
                found = True
                _report_overlap(placed, rules[earlier], both[0], findings, hidden=changed[later] <= changed[earlier])
                break
    return found


def _report_overlap(later: _Checked, earlier: _Checked, sample: str, findings: Findings, *, hidden: bool) -> None:
    where = findings.positions.at(*earlier.path)
    message = f"{sample!r} matches this rule and the one at {where}, which comes first and wins"
    if hidden:
        findings.warning(later.path, f"{message}; this rule is never used: put the narrower rule first")
    else:
        findings.info(later.path, message)


def _check_idempotence(rules: Sequence[_Checked], tried: Sequence[str], findings: Findings) -> None:
    """Report rules whose result is changed again: a name that a node has already rewritten would change twice."""
    reported: set[KeyPath] = set()
    for sample in tried:
        placed, once = _rewrite(rules, sample)
        _, twice = _rewrite(rules, once)
        if placed is None or once == twice or placed.path in reported:
            continue
        reported.add(placed.path)
        findings.warning(
            placed.path,
            f"{NOT_IDEMPOTENT}: {sample} becomes {once}, and a node that still rewrites by itself would get "
            f"{twice}. Remove the rewrite on the nodes, or set nodeRewrites: true on the registry",
        )


def _rewrite(rules: Sequence[_Checked], repository: str) -> tuple[_Checked | None, str]:
    for placed in rules:
        changed = placed.rule.apply(repository)
        if changed != repository:
            return placed, join_path(changed)
    return None, repository
