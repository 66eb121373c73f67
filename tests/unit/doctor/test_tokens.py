import base64
import json

import pytest

from proxy.auth.outward.exchange import Grant
from proxy.doctor.scopes import advice_for, may_have_other_cause, push_verdict, strictness
from proxy.doctor.tokens import TokenAnswer, granted_actions
from proxy.oci.scope import Scope

NAME = "team/app"
SCOPE = Scope.pull(NAME)
WIDE = Scope("repository", NAME, frozenset({"pull", "push"}))


def jwt(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{middle}.c2ln"


def granting(*actions: str, name: str = NAME) -> str:
    return jwt({"access": [{"type": "repository", "name": name, "actions": list(actions)}]})


def answer(token: str | None, status: int = 200) -> TokenAnswer:
    return TokenAnswer(status, "get", None if token is None else Grant(token, 0.0, 300.0))


@pytest.mark.parametrize(
    ("token", "actions"),
    [
        (granting("pull"), {"pull"}),
        (granting("pull", "push"), {"pull", "push"}),
        (granting("pull", name="other/app"), set()),
        (jwt({"access": []}), set()),
        (jwt({"access": [{"name": NAME, "actions": None}, "x"]}), set()),
    ],
)
def test_actions_of_a_jwt_are_read(token: str, actions: set[str]) -> None:
    assert granted_actions(token, NAME) == frozenset(actions)


@pytest.mark.parametrize("token", ["opaque", "a.b", "a.b.c", "a.e30.c", jwt([]), jwt({"access": {}}), "a.é.c", "a..c"])
def test_what_is_no_readable_jwt_says_nothing(token: str) -> None:
    assert granted_actions(token, NAME) is None


@pytest.mark.parametrize(
    ("got", "verdict"),
    [
        (answer(None, 404), "strict"),
        (answer(None, 401), "strict"),
        (answer(None, 500), "strict"),
        (answer(granting()), "strict"),
        (answer(granting("pull")), "tolerant"),
        (answer("opaque"), "tolerant"),
    ],
)
def test_strictness(got: TokenAnswer, verdict: str) -> None:
    found, seen = strictness(got, SCOPE)
    assert found == verdict
    assert str(got.status) in seen


@pytest.mark.parametrize(
    ("got", "verdict"),
    [
        (answer(None, 403), "refused"),
        (answer(granting("pull")), "narrowed"),
        (answer(granting()), "narrowed"),
        (answer(granting("pull", "push")), "granted"),
        (answer(granting("*")), "granted"),
        (answer("opaque"), "unknown"),
    ],
)
def test_push(got: TokenAnswer, verdict: str) -> None:
    assert push_verdict(got, WIDE)[0] == verdict


@pytest.mark.parametrize(("status", "little"), [(404, False), (401, False), (403, False), (429, True), (500, True)])
def test_some_refusals_may_have_other_causes(status: int, little: bool) -> None:
    assert may_have_other_cause(status) is little


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500, 503])
def test_there_is_advice_for_every_refusal(status: int) -> None:
    assert len(advice_for(status, str(SCOPE))) > 10
