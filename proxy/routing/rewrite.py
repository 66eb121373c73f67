"""Ordered rewrite rules: the first rule that changes the repository wins."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.oci.errors import Denied
from proxy.rules.rewrite_rule import RewriteRule, join_path

LABEL_LIMIT = 120
"""Maximum characters of a pattern in the label of a metric."""

_UPSTREAM_PATH = re.compile(r"[A-Za-z0-9._~/-]+")


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A rule and its position (`file:line:column`)."""

    rule: RewriteRule
    place: str

    @property
    def label(self) -> str:
        """The label of the rule in metrics."""
        return rule_label(self.rule.pattern)

    def __str__(self) -> str:
        """The rule in short, and its position."""
        return f"{self.rule.pattern} -> {self.rule.replacement} ({self.place})"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The result of applying rules to a repository; `rule` is None if none changed it."""

    path: str
    rule: PlacedRule | None
    note: str


@dataclass(frozen=True, slots=True)
class RewriteRules:
    """The rules of one endpoint, in order."""

    rules: tuple[PlacedRule, ...] = ()
    node_rewrites: bool = False

    def apply(self, repository: str) -> Rewriting:
        """Rewrite a repository; raises Denied if the result is not valid in a URL."""
        if self.node_rewrites and (placed := self._rewritten_by_node(repository)):
            return Rewriting(repository, None, f"already rewritten by the node as {placed} would")
        for placed in self.rules:
            replaced = placed.rule.apply(repository)
            if replaced != repository:
                return Rewriting(_checked(join_path(replaced), placed), placed, f"rewritten by {placed}")
        note = "no rule changes the repository" if self.rules else "no rules"
        return Rewriting(repository, None, note)

    def _rewritten_by_node(self, repository: str) -> PlacedRule | None:
        prefixes: Iterable[tuple[str, PlacedRule]] = ((placed.rule.literal_prefix, placed) for placed in self.rules)
        return next((placed for prefix, placed in prefixes if prefix and repository.startswith(prefix)), None)


def rule_label(pattern: str) -> str:
    """The label in metrics of a rule with this pattern."""
    return pattern[:LABEL_LIMIT]


def _checked(path: str, placed: PlacedRule) -> str:
    if not _UPSTREAM_PATH.fullmatch(path):
        raise Denied(f"the rewrite rule at {placed.place} leaves no valid repository: {path!r}")
    return path
