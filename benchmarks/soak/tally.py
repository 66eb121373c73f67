"""How the requests of the soak ended, by kind of client and outcome."""

from collections import Counter, deque
from dataclasses import dataclass, field

MOST_REASONS = 50
"""Failures that are kept in words."""
FAILURES = frozenset({"wrong", "unexpected", "hung"})
"""Outcomes that no request may have, whatever the registries do."""


@dataclass(slots=True)
class Tally:
    """Counts of outcomes.

    `ok`: complete and right. `cut`: the connection ended before the answer did. `left`: the client left on purpose.
    `refused STATUS`: an error that the state of the registries may cause. `wrong`: complete, and not the right bytes.
    `unexpected`: an answer that no node may get. `hung`: no end in time.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_REASONS))

    def add(self, kind: str, outcome: str, reason: str = "") -> None:
        """Count one request."""
        self.counts[kind, outcome] += 1
        if outcome in FAILURES:
            self.reasons.append(f"{kind}: {outcome}: {reason}")

    def of(self, outcome: str) -> int:
        """Requests with this outcome."""
        return sum(count for (_, ended), count in self.counts.items() if ended == outcome)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """The counts, for JSON."""
        kinds = sorted({kind for kind, _ in self.counts})
        return {kind: {end: n for (of, end), n in sorted(self.counts.items()) if of == kind} for kind in kinds}
