"""What a person is told first."""

import pytest

from proxy.server.status import Certificate, Finding, Level, Reload, Status, StoreFill
from proxy.server.status_findings import SOON_SECONDS, judged
from proxy.server.status_page import headline
from proxy.upstream.endpoints import EndpointState
from tests.unit.server.statuses import NOW, process, status, upstream

DOWN = (EndpointState.FAILING, EndpointState.COOLING, EndpointState.RESTING)


def only(made: Status) -> Finding:
    (found,) = judged(made).findings
    return found


def test_where_nothing_is_wrong_nothing_is_told() -> None:
    found = judged(status(upstreams=(upstream("a", EndpointState.OK), upstream("b", EndpointState.UNASKED))))
    assert (found.findings, found.level, headline(found)) == ((), Level.OK, "Working")


@pytest.mark.parametrize("state", DOWN)
def test_a_registry_is_down_when_all_its_endpoints_are(state: EndpointState) -> None:
    made = status(upstreams=(upstream("a", EndpointState.OK), upstream("b", state, state)))
    found = only(made)
    assert (found.level, found.text) == (Level.BAD, "b is down: no connection")
    assert "scope-proxy doctor b" in found.advice
    assert headline(judged(made)) == "Some pulls fail"
    assert headline(judged(status(upstreams=(upstream("b", state),)))) == "Pulls fail"


@pytest.mark.parametrize("state", DOWN)
def test_one_endpoint_of_several_is_a_warning(state: EndpointState) -> None:
    made = status(upstreams=(upstream("a", state, EndpointState.OK),))
    assert only(made).level is Level.WARNING
    assert headline(judged(made)) == "Working, with warnings"


def test_a_refusal_is_a_warning() -> None:
    found = only(status(upstreams=(upstream("a", EndpointState.REFUSING, error="403 for the credentials"),)))
    assert (found.level, found.text) == (
        Level.WARNING,
        "a answers, but not with what was asked for: 403 for the credentials",
    )


def test_the_wildcard_is_no_name_for_the_doctor() -> None:
    assert "doctor HOST" in only(status(upstreams=(upstream("*", EndpointState.FAILING),))).advice


def test_not_serving_is_bad_and_stopping_is_not() -> None:
    starting = status(process=process(ready=False))
    assert (only(starting).level, headline(judged(starting))) == (Level.BAD, "Not serving")
    assert only(status(process=process(ready=False, draining=True))).level is Level.WARNING


def test_a_disk_in_trouble_and_a_configuration_that_was_not_taken_are_warnings() -> None:
    store = only(status(store=StoreFill("/cache", 1, None, None, "no rights")))
    assert (store.level, "no rights" in store.text, "/cache" in store.advice) == (Level.WARNING, True, True)
    assert judged(status(store=None)).findings == ()
    reload = only(status(reload=Reload(NOW, ("c.yaml:3:1: unknown key",))))
    assert (reload.level, "c.yaml:3:1" in reload.text) == (Level.WARNING, True)
    assert judged(status(reload=Reload(NOW, ()))).findings == ()


@pytest.mark.parametrize(
    ("left", "level"), [(-1.0, Level.BAD), (SOON_SECONDS - 1, Level.WARNING), (SOON_SECONDS + 1, None)]
)
def test_certificates_that_end(left: float, level: Level | None) -> None:
    found = judged(status(certificates=(Certificate("listeners[0].tls", NOW + left),))).findings
    assert [finding.level for finding in found] == ([level] if level is not None else [])


def test_the_worst_stands_first() -> None:
    made = status(reload=Reload(NOW, ("x",)), upstreams=(upstream("b", EndpointState.FAILING),))
    assert [finding.level for finding in judged(made).findings] == [Level.BAD, Level.WARNING]
    assert judged(made).level is Level.BAD
