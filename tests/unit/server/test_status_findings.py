"""What the status page reports first."""

from dataclasses import replace

import pytest

from proxy.server.status.findings import EXPIRES_SOON_SECONDS, REFUSALS, WRITE_ERROR_SECONDS, level_of, with_findings
from proxy.server.status.page import headline
from proxy.server.status.values import (
    Certificate,
    LastWriteError,
    Level,
    Notice,
    Reload,
    Status,
    StoreUsage,
    UpstreamStatus,
)
from proxy.store.disk import REASONS
from proxy.upstream.endpoints import EndpointState
from proxy.upstream.rate_limits import RateLimitStatus
from tests.unit.server.statuses import NOW, process, status, upstream

DOWN = (EndpointState.FAILING, EndpointState.COOLING, EndpointState.RESTING)


def only(made: Status) -> Notice:
    (found,) = with_findings(made).findings
    return found


def test_where_nothing_is_wrong_nothing_is_reported() -> None:
    found = with_findings(status(upstreams=(upstream("a", EndpointState.OK), upstream("b", EndpointState.UNASKED))))
    assert (found.findings, found.level, headline(found)) == ((), Level.OK, "Working")


@pytest.mark.parametrize("state", DOWN)
def test_a_registry_is_down_when_all_its_endpoints_are(state: EndpointState) -> None:
    made = status(upstreams=(upstream("a", EndpointState.OK), upstream("b", state, state)))
    found = only(made)
    assert (found.level, found.text) == (Level.BAD, "Pulls from b fail: no connection")
    assert "scope-proxy doctor b" in found.advice
    assert headline(with_findings(made)) == "Some pulls fail"
    assert headline(with_findings(status(upstreams=(upstream("b", state),)))) == "Pulls fail"


@pytest.mark.parametrize("state", DOWN)
def test_one_endpoint_of_several_is_a_warning(state: EndpointState) -> None:
    made = status(upstreams=(upstream("a", state, EndpointState.OK),))
    assert only(made).level is Level.WARNING
    assert headline(with_findings(made)) == "Working, with warnings"


def refusing(times: int, *others: EndpointState) -> UpstreamStatus:
    found = upstream("a", EndpointState.REFUSING, *others, error="403 for the credentials")
    first = replace(found.endpoints[0], health=replace(found.endpoints[0].health, refusals=times))
    endpoints = (first, *found.endpoints[1:])
    return UpstreamStatus("a", level_of(endpoints), endpoints)


def test_refusals_in_a_row_are_bad_and_a_single_one_is_no_finding() -> None:
    single = with_findings(status(upstreams=(refusing(REFUSALS - 1),)))
    assert (single.findings, single.upstreams[0].level, headline(single)) == ((), Level.OK, "Working")
    made = status(upstreams=(refusing(REFUSALS),))
    found = only(made)
    assert found.level is Level.BAD
    assert "3 refusals or unusable responses in a row" in found.text
    assert "403 for the credentials" in found.text
    assert headline(with_findings(made)) == "Pulls fail"


def test_refusals_of_one_endpoint_of_several_are_a_warning() -> None:
    assert only(status(upstreams=(refusing(REFUSALS, EndpointState.OK),))).level is Level.WARNING


def test_what_could_not_be_kept_lately_is_reported_with_its_cause() -> None:
    found = only(status(unkept=LastWriteError(NOW - 5, "enospc")))
    assert (found.level, "no space left on the disk" in found.text) == (Level.WARNING, True)
    assert "/cache" in found.advice
    assert with_findings(status(unkept=LastWriteError(NOW - WRITE_ERROR_SECONDS - 1, "enospc"))).findings == ()
    assert with_findings(status(store=None, unkept=LastWriteError(NOW, "enospc"))).findings == ()


@pytest.mark.parametrize("reason", REASONS)
def test_there_are_words_for_every_cause(reason: str) -> None:
    found = only(status(unkept=LastWriteError(NOW, reason)))
    assert ("see the log" in found.text) is (reason == "other")


def test_what_waits_for_a_restart_is_reported() -> None:
    found = only(status(waiting=("workers", "limits")))
    assert (found.level, "workers, limits" in found.text, "Restart" in found.advice) == (Level.WARNING, True, True)


def test_files_of_a_listener_that_cannot_be_used_are_reported() -> None:
    found = only(status(tls_problems=("listeners[0].tls: /c.pem cannot be used: KEY_VALUES_MISMATCH",)))
    assert (found.level, "KEY_VALUES_MISMATCH" in found.text) == (Level.WARNING, True)


def test_the_wildcard_is_no_name_for_the_doctor() -> None:
    assert "doctor HOST" in only(status(upstreams=(upstream("*", EndpointState.FAILING),))).advice


def test_not_serving_is_bad_and_stopping_is_not() -> None:
    starting = status(process=process(ready=False))
    assert (only(starting).level, headline(with_findings(starting))) == (Level.BAD, "Not serving")
    assert only(status(process=process(ready=False, draining=True))).level is Level.WARNING


def test_a_disk_in_trouble_and_a_configuration_that_was_not_taken_are_warnings() -> None:
    store = only(status(store=StoreUsage("/cache", 1, None, None, "no rights")))
    assert (store.level, "no rights" in store.text, "/cache" in store.advice) == (Level.WARNING, True, True)
    assert with_findings(status(store=None)).findings == ()
    reload = only(status(reload=Reload(NOW, ("c.yaml:3:1: unknown key",))))
    assert (reload.level, "c.yaml:3:1" in reload.text) == (Level.WARNING, True)
    assert with_findings(status(reload=Reload(NOW, ()))).findings == ()


@pytest.mark.parametrize(
    ("left", "level"), [(-1.0, Level.BAD), (EXPIRES_SOON_SECONDS - 1, Level.WARNING), (EXPIRES_SOON_SECONDS + 1, None)]
)
def test_certificates_that_end(left: float, level: Level | None) -> None:
    found = with_findings(status(certificates=(Certificate("listeners[0].tls", NOW + left),))).findings
    assert [finding.level for finding in found] == ([level] if level is not None else [])


def test_the_worst_stands_first() -> None:
    made = status(reload=Reload(NOW, ("x",)), upstreams=(upstream("b", EndpointState.FAILING),))
    assert [finding.level for finding in with_findings(made).findings] == [Level.BAD, Level.WARNING]
    assert with_findings(made).level is Level.BAD


def test_a_rate_limit_of_which_little_is_left_is_a_warning_unless_a_client_uses_it_up() -> None:
    low = RateLimitStatus("docker.io", "robot", 100, 7, 21600.0, NOW + 600, NOW, low=True)
    client, enough = replace(low, credential="client"), replace(low, remaining=70, low=False)
    found = only(status(rate_limits=(low, client, enough)))
    assert (found.level, found.text) == (Level.WARNING, "docker.io has 7 of 100 requests left (robot).")
    assert only(status(rate_limits=(replace(low, limit=None, remaining=0),))).text == (
        "docker.io has 0 requests left (robot)."
    )
