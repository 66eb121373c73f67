import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.outward.exchange import DEFAULT_TTL, MAX_TTL, Grant, GrantKey, TokenInvalid
from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope


@pytest.mark.parametrize(
    ("answer", "token"),
    [
        ({"token": "a.b-c_d~e+f/g="}, "a.b-c_d~e+f/g="),
        ({"access_token": "abc"}, "abc"),
        ({"token": "old", "access_token": "new"}, "new"),
        ({"token": "abc", "access_token": ""}, "abc"),
        ({"token": "abc", "access_token": None}, "abc"),
        ({"token": "abc", "refresh_token": "never used"}, "abc"),
    ],
)
def test_either_field_holds_the_token(answer: object, token: str) -> None:
    assert Grant.parse(answer, 0.0).token == token


@pytest.mark.parametrize(
    ("expires_in", "life"),
    [
        (300, 300.0),
        (1, 1.0),
        (2.5, 2.5),
        ("300", 300.0),
        (0, DEFAULT_TTL),
        (-5, DEFAULT_TTL),
        ("-5", DEFAULT_TTL),
        ("soon", DEFAULT_TTL),
        ("", DEFAULT_TTL),
        (None, DEFAULT_TTL),
        (True, DEFAULT_TTL),
        ([], DEFAULT_TTL),
        (math.nan, DEFAULT_TTL),
        (-math.inf, DEFAULT_TTL),
        (math.inf, MAX_TTL),
        (10**9, MAX_TTL),
        (10**400, MAX_TTL),
        ("9" * 5000, MAX_TTL),
    ],
)
def test_life_counts_from_the_question_and_is_bounded(expires_in: object, life: float) -> None:
    grant = Grant.parse({"token": "abc", "expires_in": expires_in}, 1000.0)
    assert (grant.fetched_at, grant.expires_at) == (1000.0, 1000.0 + life)


def test_without_expires_in_it_is_a_minute() -> None:
    assert Grant.parse({"token": "abc"}, 0.0).expires_at == 60.0


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "s3cret",
        {},
        {"token": ""},
        {"token": 7},
        {"token": ["s3cret"]},
        {"token": "s3cret with spaces"},
        {"token": "s3cret\r\nX: y"},
        {"token": "s3crét"},
        {"token": "s3cret" + "x" * 16384},
        {"error": "s3cret"},
    ],
)
def test_what_is_no_token_is_an_error_that_does_not_repeat_it(answer: object) -> None:
    with pytest.raises(TokenInvalid) as caught:
        Grant.parse(answer, 0.0)
    assert "s3cr" not in str(caught.value)


def test_a_token_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(Grant.parse({"token": "s3cret"}, 0.0))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["token", "x"]), inner),
    max_leaves=5,
)
ANSWERS = JSON | st.fixed_dictionaries({"token": st.just("t") | JSON, "expires_in": JSON})


@given(ANSWERS)
def test_no_answer_raises_anything_but_token_invalid(answer: object) -> None:
    try:
        grant = Grant.parse(json.loads(json.dumps(answer)), 0.0)
    except TokenInvalid:
        return
    assert 1 <= grant.expires_at <= MAX_TTL


@pytest.mark.parametrize(
    ("life", "now", "valid", "due"),
    [
        (60, 0, True, False),
        (60, 47.9, True, False),
        (60, 48, True, True),
        (60, 60, False, True),
        (3600, 3569, True, False),
        (3600, 3570, True, True),
        (1, 0.79, True, False),
    ],
)
def test_a_grant_is_renewed_in_its_last_part(life: float, now: float, valid: bool, due: bool) -> None:
    grant = Grant("abc", 0.0, float(life))
    assert (grant.is_valid(now), grant.is_due(now)) == (valid, due)


WORDS = st.text("a|:/", max_size=3)
IDENTITIES = st.builds(Login, st.just("n"), st.sampled_from(LoginKind), WORDS, WORDS).map(lambda login: login.identity)
Parts = tuple[Origin, str, str | None, str, Scope]
KEYS: st.SearchStrategy[Parts] = st.tuples(
    st.sampled_from([Origin.parse("https://a.example"), Origin.parse("https://a.example:8443")]),
    WORDS,
    WORDS | st.none(),
    IDENTITIES,
    WORDS.map(Scope.pull),
)


@given(KEYS, KEYS)
def test_no_two_questions_share_a_key(one: Parts, other: Parts) -> None:
    assert (GrantKey(*one) == GrantKey(*other)) == (one == other)
