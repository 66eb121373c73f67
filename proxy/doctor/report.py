"""The report: its values, for people and for scripts, and the journal that collects them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from proxy.observe.log import redact

Fact = str | int | bool | None


class Check(StrEnum):
    """The checks, in the order of the report."""

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
"""Checks without an image."""
IMAGE_CHECKS = tuple(check for check in Check if check is not Check.LOGIN)
"""Checks with an image: a token for its scope proves more than a login."""


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
    """The observation, or why the check was skipped; one sentence."""
    advice: str = ""
    """What to do, where it warned or failed."""
    facts: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))
    """The same for scripts."""

    def as_dict(self) -> dict[str, object]:
        """Plain data."""
        data = {"check": self.check.value, "outcome": self.outcome.value, "seen": self.seen}
        return {**data, "advice": self.advice, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class HostReport:
    """Everything about one endpoint."""

    url: str
    place: str
    """Its position in the configuration."""
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
"""Maximum length of a sentence in characters: registries choose parts of it."""
SECRET_LENGTH = 8
"""Minimum length of a secret that is redacted: a shorter one would match ordinary words."""

_HIDDEN = "<redacted>"


class Journal:
    """Collects findings; text from registries is bounded, printable, and free of our secrets."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = tuple(checks)
        self._findings: list[Finding] = []
        self._secrets: set[str] = set()

    def hide(self, *secrets: str) -> None:
        """Redact these, also where a registry sends them back."""
        self._secrets |= {secret.lower() for secret in secrets if len(secret) >= SECRET_LENGTH}

    def passed(self, check: Check, seen: str, **facts: Fact) -> None:
        """The check passed."""
        self._add(check, Outcome.PASSED, seen, "", facts)

    def warned(self, check: Check, seen: str, advice: str, **facts: Fact) -> None:
        """It works, and the operator should act."""
        self._add(check, Outcome.WARNED, seen, advice, facts)

    def failed(self, check: Check, seen: str, advice: str, **facts: Fact) -> None:
        """It does not work."""
        self._add(check, Outcome.FAILED, seen, advice, facts)

    def skipped(self, check: Check, why: str, **facts: Fact) -> None:
        """The check did not run, or has no result."""
        self._add(check, Outcome.SKIPPED, why, "", facts)

    def has_failed(self, check: Check) -> bool:
        """Whether this check has failed."""
        return any(finding.check is check and finding.outcome is Outcome.FAILED for finding in self._findings)

    @property
    def next(self) -> Check:
        """The first check without a finding, else the last one."""
        done = {finding.check for finding in self._findings}
        return next((check for check in self._checks if check not in done), self._checks[-1])

    def finish(self, why: str) -> tuple[Finding, ...]:
        """All findings in order; checks without one are skipped for this reason."""
        done = {finding.check for finding in self._findings}
        for check in self._checks:
            if check not in done:
                self.skipped(check, why)
        return tuple(sorted(self._findings, key=lambda finding: list(Check).index(finding.check)))

    def _add(self, check: Check, outcome: Outcome, seen: str, advice: str, facts: dict[str, Fact]) -> None:
        cleaned = {name: self._clean(value) if isinstance(value, str) else value for name, value in facts.items()}
        finding = Finding(check, outcome, self._clean(seen), self._clean(advice), MappingProxyType(cleaned))
        self._findings.append(finding)

    def _clean(self, text: str) -> str:
        """One printable line: a registry must not control the terminal, nor make us print secrets."""
        for secret in self._secrets:
            while (at := text.lower().find(secret)) >= 0:
                text = text[:at] + _HIDDEN + text[at + len(secret) :]
        text = "".join(character if character.isprintable() else "?" for character in redact(text))
        return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."
