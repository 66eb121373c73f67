"""What was found: pure values, the same for people and for scripts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

Fact = str | int | bool | None


class Check(StrEnum):
    """What is looked at, in the order in which it is told."""

    RESOLUTION = "resolution"
    CONNECTION = "connection"
    TLS = "tls"
    CLOCK = "clock"
    CHALLENGE = "challenge"
    REPOSITORY = "repository challenge"
    REALM = "realm"
    CREDENTIAL = "credential"
    LOGIN = "login"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    UNKNOWN_SCOPE = "unknown scope"
    PUSH_SCOPE = "push scope"
    HEAD = "manifest head"
    GET = "manifest get"
    RANGE = "blob range"
    REDIRECT = "redirect"
    REFERRERS = "referrers"
    RATE_LIMIT = "rate limit"


HOST_CHECKS = (
    Check.RESOLUTION,
    Check.CONNECTION,
    Check.TLS,
    Check.CLOCK,
    Check.CHALLENGE,
    Check.REALM,
    Check.CREDENTIAL,
    Check.LOGIN,
)
"""What can be looked at without an image."""
IMAGE_CHECKS = tuple(check for check in Check if check is not Check.LOGIN)
"""What is looked at with one: a token for its scope says more than a login."""


class Outcome(StrEnum):
    """How a check went."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: Check
    outcome: Outcome
    seen: str
    """What was seen, or why nothing was looked at; one sentence."""
    advice: str = ""
    """What to do, where it warned or failed."""
    facts: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))
    """The same for scripts."""

    def as_dict(self) -> dict[str, object]:
        """Plain data."""
        told = {"check": self.check.value, "outcome": self.outcome.value, "seen": self.seen}
        return {**told, "advice": self.advice, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class HostReport:
    """Everything about one endpoint."""

    url: str
    place: str
    """Where it is written."""
    repository: str | None
    """The upstream repository; None where no image was given."""
    findings: tuple[Finding, ...]

    def count(self, outcome: Outcome) -> int:
        """How many checks went so."""
        return sum(finding.outcome is outcome for finding in self.findings)

    def as_dict(self) -> dict[str, object]:
        """Plain data."""
        findings = [finding.as_dict() for finding in self.findings]
        return {"url": self.url, "place": self.place, "repository": self.repository, "findings": findings}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found."""

    hosts: tuple[HostReport, ...]

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return self.count(Outcome.FAILED) > 0

    def count(self, outcome: Outcome) -> int:
        """How many checks went so, of all hosts."""
        return sum(host.count(outcome) for host in self.hosts)

    def as_dict(self) -> dict[str, object]:
        """Plain data."""
        counts = {outcome.value: self.count(outcome) for outcome in Outcome}
        return {"ok": not self.failed, "counts": counts, "hosts": [host.as_dict() for host in self.hosts]}
