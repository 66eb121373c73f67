import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.outward.credentials import is_text
from proxy.oci.login import ANONYMOUS, Login, LoginKind

TEXTS = st.text("ab:|\x00", max_size=4)
PARTS = st.tuples(st.sampled_from(LoginKind), TEXTS, TEXTS)


@given(PARTS, PARTS)
def test_two_credentials_have_one_identity_only_if_they_are_the_same(
    one: tuple[LoginKind, str, str], other: tuple[LoginKind, str, str]
) -> None:
    assert (Login("x", *one).identity == Login("y", *other).identity) == (one == other)


def test_a_secret_shows_neither_in_the_repr_nor_in_the_identity() -> None:
    login = Login("n", LoginKind.PASSWORD, "robot", "s3cret")
    assert "s3cret" not in repr(login) + login.identity
    assert ANONYMOUS.secret == ""


@pytest.mark.parametrize(
    ("value", "expected"), [("", True), ("ä😀", True), ("a\ud800", False), (b"a", False), (7, False)]
)
def test_only_what_can_be_sent_is_text(value: object, expected: bool) -> None:
    assert is_text(value) is expected
