"""A server whose answers follow a script of faults."""

from dataclasses import dataclass
from functools import cached_property

from aiohttp import web

from proxy.testbed.record import Call, seen
from proxy.testbed.server import RecordingServer, Wire
from tests.fakes.changes import Change
from tests.fakes.interrupts import Interrupt, deliver
from tests.fakes.matching import Match

Fault = Change | Interrupt


@dataclass(slots=True)
class Script:
    """One entry of a script and how often it has come into play."""

    match: Match
    faults: tuple[Fault, ...]
    fitting: int = 0  # requests that fit
    fired: int = 0  # requests that got the faults

    def count(self, call: Call) -> bool:
        """Count a request; whether it is one that gets the faults."""
        if not self.match.fits(call):
            return False
        self.fitting += 1
        return self.match.takes(self.fitting)


class ScriptedServer(RecordingServer):
    """Answers as its kind does, save where the script says otherwise."""

    def script(self, match: Match, *faults: Fault) -> Script:
        """Let these faults happen together to every request that the match takes; the entry made first wins."""
        entry = Script(match, faults)
        self._entries.append(entry)
        return entry

    def behave(self) -> None:
        """Forget the script."""
        self._entries.clear()

    @cached_property
    def _entries(self) -> list[Script]:
        return []  # cached, so that a server of any kind can be scripted without a constructor here

    async def exchange(self, wire: Wire, call: Call) -> web.StreamResponse:
        """Answer one request with the faults that are due."""
        faults = self._due(call)
        answer = self.answer(call)
        for change in faults:
            if isinstance(change, Change):
                answer = change.apply(call, answer)
        interrupts = [one for one in faults if isinstance(one, Interrupt)]
        status = 0 if any(one.hides_status for one in interrupts) else answer.status
        self.record.add(seen(call, self.credential(call), status))
        return await deliver(wire, answer, interrupts)

    def _due(self, call: Call) -> tuple[Fault, ...]:
        due = [entry for entry in self._entries if entry.count(call)]
        if not due:
            return ()
        due[0].fired += 1
        return due[0].faults
