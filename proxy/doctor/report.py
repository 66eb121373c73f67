"""What was found: pure values, the same for people and for scripts, and the journal that collects them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from proxy.observe.log import redact

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


TEXT_LIMIT = 400
"""Longest sentence in characters: parts of it are chosen by registries."""
SECRET_LENGTH = 8
"""Characters that a secret has at the least for its text to be looked for: a shorter one stands in many words."""

_HIDDEN = "<redacted>"


class Journal:
    """Takes findings; what registries have put into them is bounded, printable, and holds none of our secrets."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = tuple(checks)
        self._findings: list[Finding] = []
        self._secrets: set[str] = set()

    def hide(self, *secrets: str) -> None:
        """Never show these, even where a registry sends them back to us."""
        self._secrets |= {secret.lower() for secret in secrets if len(secret) >= SECRET_LENGTH}

    def passed(self, check: Check, seen: str, **facts: Fact) -> None:
        """All is well."""
        self._add(check, Outcome.PASSED, seen, "", facts)

    def warned(self, check: Check, seen: str, advice: str, **facts: Fact) -> None:
        """It works, and something should be done."""
        self._add(check, Outcome.WARNED, seen, advice, facts)

    def failed(self, check: Check, seen: str, advice: str, **facts: Fact) -> None:
        """It does not work."""
        self._add(check, Outcome.FAILED, seen, advice, facts)

    def skipped(self, check: Check, why: str, **facts: Fact) -> None:
        """It was not looked at, or could not be told."""
        self._add(check, Outcome.SKIPPED, why, "", facts)

    def has_failed(self, check: Check) -> bool:
        """Whether a failure of this check is told."""
        return any(finding.check is check and finding.outcome is Outcome.FAILED for finding in self._findings)

    @property
    def next(self) -> Check:
        """The first check that nothing is told of, else the last one."""
        told = {finding.check for finding in self._findings}
        return next((check for check in self._checks if check not in told), self._checks[-1])

    def finish(self, why: str) -> tuple[Finding, ...]:
        """All findings in their order; what was not come to is skipped for this reason."""
        told = {finding.check for finding in self._findings}
        for check in self._checks:
            if check not in told:
                self.skipped(check, why)
        return tuple(sorted(self._findings, key=lambda finding: list(Check).index(finding.check)))

    def _add(self, check: Check, outcome: Outcome, seen: str, advice: str, facts: dict[str, Fact]) -> None:
        shown = {name: self._clean(value) if isinstance(value, str) else value for name, value in facts.items()}
        finding = Finding(check, outcome, self._clean(seen), self._clean(advice), MappingProxyType(shown))
        self._findings.append(finding)

    def _clean(self, text: str) -> str:
        """One printable line: a registry must not write to the terminal, nor make us show what we sent it."""
        for secret in self._secrets:
            while (at := text.lower().find(secret)) >= 0:
                text = text[:at] + _HIDDEN + text[at + len(secret) :]
        text = "".join(character if character.isprintable() else "?" for character in redact(text))
        return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."
