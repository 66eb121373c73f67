import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.transport.limits import FairQueue, Requesters, client_of

CLIENTS = "abcd"
ARRIVALS = st.lists(st.sampled_from(CLIENTS), max_size=40)
ALL_HELD = st.dictionaries(st.sampled_from(CLIENTS), st.integers(0, 3))


def filled(arrivals: list[str], limit: int = 1000) -> FairQueue[tuple[str, int]]:
    """A queue with items that are named by their client and their number."""
    queue: FairQueue[tuple[str, int]] = FairQueue(limit)
    for number, client in enumerate(arrivals):
        queue.push((client, number), client)
    return queue


def drained(queue: FairQueue[tuple[str, int]]) -> list[tuple[str, int]]:
    found = []
    while (item := queue.pop({})) is not None:
        found.append(item[0])
    return found


@given(ARRIVALS)
def test_everybody_is_served_once_and_each_clients_items_in_order(arrivals: list[str]) -> None:
    served = drained(filled(arrivals))
    assert sorted(served) == sorted((client, number) for number, client in enumerate(arrivals))
    for client in CLIENTS:
        own = [number for name, number in served if name == client]
        assert own == sorted(own)


@given(ARRIVALS)
def test_nobody_starves(arrivals: list[str]) -> None:
    """The nth item of a client is served when each other client has had n turns at the most."""
    served = drained(filled(arrivals))
    turns = dict.fromkeys(CLIENTS, 0)
    for client, _ in served:
        turns[client] += 1
        for other in set(CLIENTS) - {client}:
            waits_still = turns[other] < arrivals.count(other)
            assert not waits_still or turns[client] <= turns[other] + 1


@given(ARRIVALS, ALL_HELD)
def test_who_holds_the_fewest_is_next(arrivals: list[str], held: dict[str, int]) -> None:
    found = filled(arrivals).pop(held)
    if found is None:
        assert not arrivals
    else:
        assert held.get(found[1], 0) == min(held.get(client, 0) for client in arrivals)


@given(ARRIVALS, ALL_HELD, st.integers(1, 6))
def test_a_place_that_becomes_free_stays_so_only_where_nobody_waits(
    arrivals: list[str], held: dict[str, int], limit: int
) -> None:
    queue = filled(arrivals, limit)
    for left in reversed(range(min(len(arrivals), limit))):
        assert queue.pop(held) is not None
        assert len(queue) == left
    assert queue.pop(held) is None


@given(ARRIVALS, st.integers(1, 6))
def test_it_is_bounded_and_full_as_long_as_enough_come(arrivals: list[str], limit: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(limit)
    refused = [item for number, client in enumerate(arrivals) if (item := queue.push((client, number), client))]
    assert len(queue) == min(limit, len(arrivals))
    assert sorted([*refused, *drained(queue)]) == sorted((client, number) for number, client in enumerate(arrivals))


@given(ARRIVALS, st.integers(4, 12))
def test_of_a_full_queue_every_client_that_comes_has_its_share(arrivals: list[str], limit: int) -> None:
    queue = filled(arrivals, limit)
    served = drained(queue)
    share = limit // len(CLIENTS)
    for client in CLIENTS:
        assert sum(name == client for name, _ in served) >= min(arrivals.count(client), share)


def test_who_comes_to_a_full_queue_takes_the_place_of_the_newest_of_whoever_has_the_most() -> None:
    queue = filled(list("aaab"), 4)
    assert queue.push(("c", 9), "c") == ("a", 2)
    assert queue.push(("a", 10), "a") == ("a", 10)
    assert [name for name, _ in drained(queue)] == ["a", "b", "c", "a"]


def test_what_several_clients_wait_for_is_not_pushed_out() -> None:
    queue = filled(list("aaa"), 3)
    queue.join(("a", 2), "b")
    assert queue.push(("c", 9), "c") == ("a", 1)


def test_what_several_clients_wait_for_comes_with_the_first_turn_and_only_once() -> None:
    queue = filled(list("aaab"))
    queue.join(("a", 2), "b")
    queue.join(("a", 2), "c")
    assert drained(queue) == [("a", 0), ("b", 3), ("a", 2), ("a", 1)]


def test_who_leaves_is_not_served_and_may_leave_twice() -> None:
    queue = filled(list("ab"))
    queue.join(("a", 0), "b")
    queue.remove(("a", 0))
    queue.remove(("a", 0))
    assert drained(queue) == [("b", 1)]
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_client_is_an_address_or_the_network_that_it_has(address: str, client: str) -> None:
    assert client_of(address) == client


def test_clients_join_work_and_the_work_that_it_waits_for() -> None:
    outer, inner, joined = Requesters("a"), Requesters(), list[str]()
    inner.include(outer)
    with inner.watched(joined.append):
        outer.include(Requesters("b"))
        outer.include(Requesters("b"))
        inner.include(Requesters("c"))
        outer.include(inner)
    outer.include(Requesters("d"))
    assert (list(outer), list(inner)) == (["a", "b", "c", "d"], ["a", "b", "c", "d"])
    assert joined == ["b", "c"]
