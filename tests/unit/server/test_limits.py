import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Limits
from proxy.oci.errors import TooManyRequests
from proxy.server.listener.limits import SAMPLE_SECONDS, ConnectionLimit, PendingBytes, ProcessLimits, RequestLimit
from proxy.server.listener.unread import ClientProgress

CLIENTS = "abcd"
RATE = 100.0
LEAST = int(RATE * SAMPLE_SECONDS)
CUTS = itertools.count(1)


class Visitor:
    """A connection, from when it has been accepted."""

    def __init__(self, limit: ConnectionLimit, client: str) -> None:
        self.client = client
        self.state = "new"
        self.is_unread = False
        self.cut_at = 0
        self.read: ClientProgress | None = None
        self._limit = limit

    def come(self) -> str:
        self._limit.admit(self)
        return self.state

    def open(self) -> None:
        self.state = "open"
        self._limit.enter(self)

    def wait(self) -> None:
        self.state = "waits"

    def refuse(self) -> None:
        self.state = "refused"

    def close_if_idle(self) -> bool:
        if not self.is_unread:
            self.end("closed")
        return not self.is_unread

    def cut(self, reason: str) -> None:
        self.state = reason
        self.cut_at = next(CUTS)

    def progress(self) -> ClientProgress | None:
        return self.read

    def leave(self) -> None:
        self.end()

    def end(self, state: str = "ended") -> None:
        if self.state in {"open", "busy"}:
            self.state = state
            self._limit.leave(self)
        elif self.state == "waits":
            self._limit.withdraw(self)
            self.state = state

    def begin(self) -> None:
        if self.state == "open":
            self.state = "busy"
            self._limit.set_busy(self)

    def finish(self) -> None:
        if self.state == "busy":
            self.state = "open"
            self._limit.set_idle(self)


def come(limit: ConnectionLimit, clients: str) -> list[Visitor]:
    found = [Visitor(limit, client) for client in clients]
    for visitor in found:
        visitor.come()
    return found


def states(visitors: list[Visitor]) -> list[str]:
    return [visitor.state for visitor in visitors]


def test_so_many_requests_get_in_and_others_when_they_have_left() -> None:
    limit = RequestLimit(2)
    limit.enter("a")
    limit.enter("a")
    with pytest.raises(TooManyRequests) as caught:
        limit.enter("a")
    assert caught.value.retry_after
    limit.leave("a")
    limit.enter("a")


@given(st.lists(st.sampled_from(CLIENTS), max_size=60), st.integers(4, 12))
def test_every_client_gets_its_share_of_requests_and_one_that_is_alone_gets_all(arrivals: list[str], most: int) -> None:
    limit, inside = RequestLimit(most), dict.fromkeys(CLIENTS, 0)
    for number, client in enumerate(arrivals):
        try:
            limit.enter(client)
        except TooManyRequests:
            assert sum(inside.values()) >= most
        else:
            inside[client] += 1
            assert sum(inside.values()) <= most or inside[client] <= most // len([c for c in inside.values() if c])
        if len(set(arrivals[: number + 1])) == 1:
            assert inside[client] == min(number + 1, most)
    for client in set(arrivals):
        assert inside[client] >= min(arrivals.count(client), most // len(CLIENTS))
    for client, count in inside.items():
        for _ in range(count):
            limit.leave(client)
    for _ in range(most):
        limit.enter("a")


def test_an_idle_connection_of_whoever_has_the_most_gives_way() -> None:
    limit = ConnectionLimit(4, 2, RATE)
    first = come(limit, "aaab")
    first[0].begin()
    [other] = come(limit, "c")
    assert states(first) == ["busy", "closed", "open", "open"]
    assert other.state == "open"


def test_who_has_as_many_as_anybody_gives_up_an_idle_one_of_its_own() -> None:
    limit = ConnectionLimit(4, 2, RATE)
    first = come(limit, "aabb")
    come(limit, "a")
    assert states(first) == ["closed", "open", "open", "open"]
    first[1].begin()
    first[1].finish()  # it is the youngest now
    come(limit, "a")
    assert first[1].state == "open"


def test_where_all_are_busy_a_few_wait_until_one_is_not_first_who_has_the_fewest() -> None:
    limit = ConnectionLimit(32, 2, RATE)
    first = come(limit, "a" * 32)
    for visitor in first:
        visitor.begin()
    waiting = come(limit, "aab")
    assert states(waiting) == ["waits", "refused", "waits"]
    assert states(come(limit, "a")) == ["refused"]
    first[3].finish()
    assert (first[3].state, states(waiting)) == ("closed", ["waits", "refused", "open"])
    first[5].end()
    assert states(waiting) == ["open", "refused", "open"]


def test_what_a_client_has_not_read_is_not_taken_from_it() -> None:
    limit = ConnectionLimit(2, 2, RATE)
    first = come(limit, "aa")
    first[0].is_unread = True
    assert states(come(limit, "b")) == ["open"]
    assert states(first) == ["open", "closed"]
    [other] = come(limit, "a")
    assert other.state == "waits"
    first[0].end()
    assert other.state == "open"


def busy(limit: ConnectionLimit, clients: str) -> list[Visitor]:
    """Connections on which something is being answered."""
    found = come(limit, clients)
    for visitor in found:
        visitor.begin()
    return found


def read(visitors: list[Visitor], *taken: int | None) -> None:
    """What the clients have read by now."""
    for visitor, count in zip(visitors, taken, strict=True):
        visitor.read = None if count is None else ClientProgress(count, 2.0)


CLOCK = itertools.count(100.0, SAMPLE_SECONDS)


def look(limit: ConnectionLimit) -> None:
    """Look as often as a listener does."""
    limit.cut_unread(next(CLOCK))


def test_who_waits_gets_the_place_of_a_connection_that_is_not_read() -> None:
    limit = ConnectionLimit(3, 2, RATE)
    first = busy(limit, "aaa")
    read(first, 1000, 1000, 1000)
    [other] = come(limit, "b")
    look(limit)
    assert other.state == "waits"  # nobody knows yet
    read(first, 1000 + LEAST, 1000 + LEAST - 1, 1000)
    look(limit)
    assert states(first) == ["busy", "unread", "busy"]
    assert other.state == "open"
    look(limit)
    assert first[2].state == "busy"


def test_who_waits_for_the_upstream_is_not_taken_for_one_that_does_not_read() -> None:
    limit = ConnectionLimit(2, 2, RATE)
    first = busy(limit, "aa")
    [other] = come(limit, "b")
    for taken in (None, 1000, None, 1000):
        read(first, taken, None)
        look(limit)
    assert (states(first), other.state) == (["busy", "busy"], "waits")


@pytest.mark.parametrize(("have", "comes"), [("aa", "a"), ("aabb", "a"), ("ab", "c"), ("aabb", "b")])
def test_who_has_no_more_than_the_one_that_waits_loses_nothing(have: str, comes: str) -> None:
    limit = ConnectionLimit(len(have), 2, RATE)
    first = busy(limit, have)
    [other] = come(limit, comes)
    for _ in range(3):
        read(first, *[5] * len(have))
        look(limit)
    assert (states(first), other.state) == (["busy"] * len(have), "waits")


def test_one_is_cut_for_each_that_waits_whatever_it_was_doing() -> None:
    limit = ConnectionLimit(8, 4, RATE)
    first = busy(limit, "aaaa") + come(limit, "aaaa")
    for visitor in first:
        visitor.is_unread = True
    waiting = come(limit, "bc")
    for _ in range(2):
        read(first, *[7] * 8)
        look(limit)
    assert states(waiting) == ["open", "open"]
    assert states(first).count("unread") == 2


def test_the_one_that_has_read_nothing_for_longest_is_the_first() -> None:
    limit = ConnectionLimit(3, 2, RATE)
    first = busy(limit, "aaa")
    come(limit, "b")
    for _ in range(2):
        for visitor, quiet in zip(first, (2.0, 9.0, 3.0), strict=True):
            visitor.read = ClientProgress(5, quiet)
        look(limit)
    assert states(first) == ["busy", "unread", "busy"]


def test_many_that_are_read_hide_none_that_is_not() -> None:
    limit = ConnectionLimit(8, 2, RATE, sampled=4)
    first = busy(limit, "a" * 8)
    [other] = come(limit, "b")
    for number in range(6):
        read(first, *[number * LEAST] * 5, *[7] * 3)
        look(limit)
    assert states(first).count("unread") == 1
    assert states(first[:5]) == ["busy"] * 5
    assert other.state == "open"


@pytest.mark.parametrize("passed", [0.1, 0.9, 1000.0], ids=["at once", "early", "long ago"])
def test_what_was_seen_at_another_time_cuts_nobody(passed: float) -> None:
    """Each listener looks while connections wait at it; the limit is one for all."""
    limit = ConnectionLimit(2, 2, RATE)
    first = busy(limit, "aa")
    come(limit, "b")
    read(first, 5, 5)
    limit.cut_unread(100.0)
    limit.cut_unread(100.0 + passed)
    assert states(first) == ["busy", "busy"]


def test_who_reads_at_the_least_rate_is_not_cut_whenever_it_is_looked() -> None:
    limit = ConnectionLimit(1, 2, RATE)
    first = busy(limit, "a")
    limit.admit(Visitor(limit, "b"))
    for number in range(50):
        now = 100 + number * 1.3
        read(first, int(now * RATE) + number)
        limit.cut_unread(now)
    assert states(first) == ["busy"]


STEPS = st.lists(
    st.one_of(
        st.sampled_from(CLIENTS),
        st.tuples(st.sampled_from(["begin", "finish", "end"]), st.integers(0, 60)),
    ),
    max_size=80,
)


@given(STEPS, st.integers(1, 20))
def test_there_are_never_more_and_none_waits_where_there_is_room(steps: list[str | tuple[str, int]], most: int) -> None:
    limit, visitors = ConnectionLimit(most, 2, RATE), list[Visitor]()
    for step in steps:
        if isinstance(step, str):
            visitors += come(limit, step)
        elif visitors:
            act: dict[str, Callable[[Visitor], None]] = {
                "begin": Visitor.begin,
                "finish": Visitor.finish,
                "end": Visitor.end,
            }
            act[step[0]](visitors[step[1] % len(visitors)])
        inside = [visitor for visitor in visitors if visitor.state in {"open", "busy"}]
        waiting = [visitor for visitor in visitors if visitor.state == "waits"]
        assert len(inside) <= most
        assert not waiting or len(inside) == most
        assert len(waiting) <= 2
        held = {client: sum(visitor.client == client for visitor in inside) for client in CLIENTS}
        least = min((held[visitor.client] for visitor in waiting), default=most)
        idle = {visitor.client for visitor in inside if visitor.state == "open"}
        assert not [client for client in idle if held[client] > least + 1]  # it would have been closed


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), max_size=60))
def test_unanswered_bytes_are_bounded_and_cost_whoever_has_sent_the_most(sent: list[tuple[int, int]]) -> None:
    unanswered = PendingBytes(100)
    visitors = [Visitor(ConnectionLimit(16, 2, RATE), "aaaaaaabbc"[number]) for number in range(10)]
    held: dict[Visitor, int] = {}
    for number, size in sent:
        visitor = visitors[number]
        if visitor.state == "heads":
            continue
        held[visitor] = held.get(visitor, 0) + size
        unanswered.add(visitor, size)
        for cut in sorted((one for one in held if one.state == "heads"), key=lambda one: one.cut_at):
            sums = {one.client: sum(held[two] for two in held if two.client == one.client) for one in held}
            assert sum(sums.values()) > 100
            assert sums[cut.client] == max(sums.values())
            assert cut is next(one for one in held if one.client == cut.client)
            del held[cut]
        assert sum(held.values()) <= 100


def test_bytes_that_are_answered_count_no_more() -> None:
    unanswered, limit = PendingBytes(100), ConnectionLimit(16, 2, RATE)
    first, second = Visitor(limit, "a"), Visitor(limit, "a")
    unanswered.forget(first)
    unanswered.add(first, 60)
    unanswered.forget(first)
    unanswered.add(second, 60)
    unanswered.add(second, 40)
    assert second.state == "new"
    unanswered.add(second, 1)
    assert second.state == "heads"


def test_the_configuration_sets_the_limits() -> None:
    gates = ProcessLimits.of(Limits(connections=100, requests=8), 16)
    for _ in range(8):
        gates.requests.enter("a")
    with pytest.raises(TooManyRequests):
        gates.requests.enter("a")
    assert gates.connections.limit == 16


def test_of_all_connections_some_are_not_answered_at_one_time() -> None:
    gates = ProcessLimits.of(Limits(connections=16, requests=100), 16)
    for _ in range(14):
        gates.requests.enter("a")
    with pytest.raises(TooManyRequests):
        gates.requests.enter("a")
