"""The judgement of the token server, make by make."""

import pytest

from tests.real.strictness import STRICT_MODES, Mode, judge, parse

KNOWN = {"project/app", "project/base"}
OTHERS = (Mode.ARTIFACTORY, Mode.SWR, Mode.GHCR)


@pytest.mark.parametrize("mode", list(Mode))
def test_known_repositories_are_granted(mode: Mode) -> None:
    verdict = judge(mode, [parse("repository:project/app:pull"), parse("repository:project/base:pull")], KNOWN)
    assert verdict.status == 200
    assert [entry["name"] for entry in verdict.access] == ["project/app", "project/base"]


@pytest.mark.parametrize("mode", list(Mode))
def test_no_scope_at_all_is_a_login(mode: Mode) -> None:
    verdict = judge(mode, [], KNOWN)
    assert (verdict.status, verdict.access) == (200, [])


@pytest.mark.parametrize("mode", OTHERS)
@pytest.mark.parametrize(
    "scope",
    ["repository:project/else:pull", "repository:project/app:pull,push", "registry:catalog:*", "nonsense", "a:b"],
)
def test_one_unknown_scope_refuses_the_whole_request(mode: Mode, scope: str) -> None:
    verdict = judge(mode, [parse("repository:project/app:pull"), parse(scope)], KNOWN)
    assert (verdict.status, verdict.access) == (int(mode.value), [])


@pytest.mark.parametrize("scope", ["repository:app:pull", "repository:elsewhere/app:pull"])
def test_harbor_refuses_what_is_in_no_project_of_its_own(scope: str) -> None:
    assert judge(Mode.HARBOR, [parse("repository:project/app:pull"), parse(scope)], KNOWN).status == 500


def test_harbor_grants_nothing_for_an_unknown_repository_of_a_project() -> None:
    verdict = judge(Mode.HARBOR, [parse("repository:project/else:pull")], KNOWN)
    assert (verdict.status, verdict.access) == (200, [])


def test_tolerant_server_grants_what_it_knows_of_the_scopes() -> None:
    scopes = [parse("repository:elsewhere/app:pull"), parse("repository:project/app:pull,push")]
    verdict = judge(Mode.TOLERANT, scopes, KNOWN)
    assert verdict.status == 200
    assert verdict.access == [{"type": "repository", "name": "project/app", "actions": ["pull"]}]


def test_a_mode_is_named_by_its_status() -> None:
    assert [mode.value for mode in STRICT_MODES] == ["404", "401", "403", "500"]
