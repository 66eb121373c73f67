import pytest

from proxy.config.model import Limits
from proxy.oci.errors import TooManyRequests
from proxy.server.gates import Gate, Gates, HeldBodies

FIRST, SECOND = b"a" * 60, b"b" * 60


def test_a_gate_lets_so_many_in_and_others_when_they_have_left() -> None:
    gate = Gate(2)
    assert [gate.enter() for _ in range(3)] == [True, True, False]
    gate.leave()
    assert gate.enter()


def test_a_place_is_given_back_whatever_happens() -> None:
    gate = Gate(1)
    with pytest.raises(LookupError), gate:
        raise LookupError
    with gate, pytest.raises(TooManyRequests) as caught, gate:
        pass
    assert caught.value.retry_after
    with gate:
        assert not gate.enter()


def test_bytes_that_clients_share_are_held_once() -> None:
    bodies = HeldBodies(100)
    with bodies.holding(FIRST), bodies.holding(FIRST), bodies.holding(FIRST):
        with pytest.raises(TooManyRequests), bodies.holding(SECOND):
            pass
        with bodies.holding(b"c" * 40), pytest.raises(TooManyRequests), bodies.holding(b"d"):
            pass
    with bodies.holding(SECOND):
        pass


def test_bytes_are_held_until_the_last_client_has_them() -> None:
    bodies = HeldBodies(100)
    with bodies.holding(FIRST):
        with bodies.holding(FIRST):
            pass
        with pytest.raises(TooManyRequests), bodies.holding(SECOND):
            pass


def test_the_configuration_sets_the_limits() -> None:
    gates = Gates.of(Limits(connections=16, requests=8))
    assert sum(gates.connections.enter() for _ in range(20)) == 16
    assert sum(gates.requests.enter() for _ in range(20)) == 8
