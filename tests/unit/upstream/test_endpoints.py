"""What is known of endpoints, as it is reported to people."""

import pytest

from proxy.config.address import Origin
from proxy.routing.table import Target
from proxy.upstream.endpoints import COOL_DOWN, ERROR_LIMIT, QUIET_SECONDS, EndpointHealth, Endpoints, EndpointState
from tests.unit.routing.support import only_target, table

ORIGIN = Origin.parse("https://up.example")


class Clock:
    """Both clocks at once: seconds since the epoch are a million ahead."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1e6


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoints(clock: Clock) -> Endpoints:
    return Endpoints(clock=clock.monotonic, wall_clock=clock.time)


@pytest.fixture
def target() -> Target:
    return only_target(table("reg.example: {endpoints: ['https://up.example']}"), "team/app", "reg.example")


def test_nothing_is_known_before_the_first_request(endpoints: Endpoints, target: Target) -> None:
    assert endpoints.health(ORIGIN) == EndpointHealth(EndpointState.UNASKED)
    endpoints.order([target])
    assert endpoints.health(ORIGIN).state is EndpointState.UNASKED


def test_a_failure_cools_then_waits_to_be_tried_again_and_a_success_ends_it(
    endpoints: Endpoints, target: Target, clock: Clock
) -> None:
    endpoints.failed(target, "no connection")
    cooling = endpoints.health(ORIGIN)
    assert cooling == EndpointHealth(
        EndpointState.COOLING, clock.time() + COOL_DOWN, 1, "no connection", clock.time(), None
    )
    clock.now += COOL_DOWN + 1
    assert endpoints.health(ORIGIN).state is EndpointState.FAILING
    assert endpoints.health(ORIGIN).until is None
    endpoints.succeeded(target)
    well = endpoints.health(ORIGIN)
    assert (well.state, well.failures, well.success_at) == (EndpointState.OK, 0, clock.time())
    assert (well.error, well.error_at) == ("no connection", cooling.error_at)


def test_a_rest_outlasts_a_success(endpoints: Endpoints, target: Target, clock: Clock) -> None:
    endpoints.failed(target, "429", retry_after=60)
    endpoints.succeeded(target)
    resting = endpoints.health(ORIGIN)
    assert (resting.state, resting.until) == (EndpointState.RESTING, clock.time() + 60)
    clock.now += 61
    assert endpoints.health(ORIGIN).state is EndpointState.FAILING


def test_a_refusal_is_no_failure_and_changes_no_order(endpoints: Endpoints, target: Target, clock: Clock) -> None:
    endpoints.succeeded(target)
    clock.now += 1
    endpoints.refused(target, "answered 403")
    refusing = endpoints.health(ORIGIN)
    assert (refusing.state, refusing.failures, refusing.error) == (EndpointState.REFUSING, 0, "answered 403")
    assert not endpoints.are_down("reg.example", [target])
    clock.now += 1
    endpoints.succeeded(target)
    assert endpoints.health(ORIGIN).state is EndpointState.OK


def test_an_error_is_bounded(endpoints: Endpoints, target: Target) -> None:
    endpoints.failed(target, "x" * 10_000)
    assert len(endpoints.health(ORIGIN).error) == ERROR_LIMIT


def test_refusals_in_a_row_are_counted_up_to_the_next_good_answer(endpoints: Endpoints, target: Target) -> None:
    for _ in range(3):
        endpoints.refused(target, "answered 403")
    endpoints.failed(target, "no connection")
    assert endpoints.health(ORIGIN).refusals == 3
    endpoints.succeeded(target)
    assert endpoints.health(ORIGIN).refusals == 0


def reports(logs: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What was logged and cleared, as level and text."""
    found = [(record.levelname, record.getMessage()) for record in logs.records]
    logs.clear()
    return found


def test_who_begins_to_fail_is_a_warning_once_until_it_serves_again(
    endpoints: Endpoints, clock: Clock, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "proxy.upstream.endpoints")
    for _ in range(3):
        endpoints.failed(target, "up.example answered 500")
    assert reports(caplog) == [("WARNING", "https://up.example fails: up.example answered 500")]
    endpoints.succeeded(target)
    endpoints.succeeded(target)
    assert reports(caplog) == [("INFO", "https://up.example serves again, after 3 failures")]
    for _ in range(20):  # good and bad in turn
        endpoints.failed(target, "up.example answered 500")
        endpoints.succeeded(target)
    assert reports(caplog) == []
    clock.now += QUIET_SECONDS
    endpoints.failed(target, "up.example answered 503")
    assert reports(caplog) == [("WARNING", "https://up.example fails: up.example answered 503")]


def test_what_one_client_finds_out_for_itself_is_not_logged(
    endpoints: Endpoints, clock: Clock, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "proxy.upstream.endpoints")
    endpoints = endpoints.for_client()
    endpoints.failed(target, "up.example answered 429", 1.0)
    clock.now += 2
    endpoints.succeeded(target)
    assert endpoints.health(ORIGIN).state is EndpointState.OK
    assert reports(caplog) == []
