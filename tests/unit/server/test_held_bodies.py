from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import TooManyRequests
from proxy.server.listener.held_bodies import HeldBodies

FIRST, SECOND = b"a" * 60, b"b" * 60


def never() -> None:
    raise AssertionError


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def test_bytes_that_clients_share_are_held_once(stack: ExitStack) -> None:
    bodies = HeldBodies(100)
    for client in "aab":
        stack.enter_context(bodies.holding(FIRST, client, never))
    for client in "ab":
        with pytest.raises(TooManyRequests), bodies.holding(SECOND, client, never):
            pass
    stack.enter_context(bodies.holding(b"c" * 40, "b", never))
    with pytest.raises(TooManyRequests), bodies.holding(b"d", "b", never):
        pass


def test_bytes_are_held_until_the_last_client_has_them() -> None:
    bodies = HeldBodies(100)
    with bodies.holding(FIRST, "a", never):
        with bodies.holding(FIRST, "b", never):
            pass
        with pytest.raises(TooManyRequests), bodies.holding(SECOND, "a", never):
            pass
    with bodies.holding(SECOND, "a", never):
        pass


def test_who_holds_the_most_loses_its_oldest_answers_to_others(stack: ExitStack) -> None:
    bodies, cut = HeldBodies(100), list[int]()
    for number in range(5):
        stack.enter_context(bodies.holding(bytes([number]) * 20, "a", partial(cut.append, number)))
    stack.enter_context(bodies.holding(b"x" * 30, "b", never))
    assert cut == [0, 1]
    with pytest.raises(TooManyRequests) as caught, bodies.holding(b"y" * 40, "b", never):
        pass  # it would have more than the other
    assert caught.value.retry_after
    stack.close()
    with bodies.holding(b"z" * 100, "c", never):
        pass


HELD = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=40)


@given(HELD)
def test_there_are_never_more_bytes_than_allowed_and_none_are_forgotten(steps: list[tuple[str, int, bool]]) -> None:
    contents = [bytes([number]) * (10 + number * 9) for number in range(6)]
    bodies = HeldBodies(100)
    held: list[tuple[str, int, ExitStack]] = []
    cut: set[int] = set()
    for client, number, is_end in steps:
        if is_end and held:
            _, _, stack = held.pop(0)
            stack.close()
            cut.discard(id(stack))
            continue
        stack = ExitStack()
        try:
            stack.enter_context(bodies.holding(contents[number], client, partial(cut.add, id(stack))))
        except TooManyRequests:
            continue
        held.append((client, number, stack))
        inside = {number for _, number, one in held if id(one) not in cut}
        assert sum(len(contents[number]) for number in inside) <= 100
    for _, _, stack in held:
        stack.close()
    with bodies.holding(b"a" * 100, "a", never):
        pass
