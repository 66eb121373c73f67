"""Authorization headers: what clients send is understood, and nothing else is guessed at."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.server.clients.checks import (
    CredentialInvalid,
    OtherScheme,
    client_login,
    identity_login,
    parse_basic,
    parse_bearer,
)

PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"]), max_size=30)


def basic(text: str | bytes) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    return ["Basic " + base64.b64encode(raw).decode()]


@given(PRINTABLE.filter(lambda user: ":" not in user and user not in ("", "<token>")), PRINTABLE)
def test_user_and_password_come_back(user: str, password: str) -> None:
    assert parse_basic(basic(f"{user}:{password}")) == Login(user, LoginKind.PASSWORD, user, password)


@pytest.mark.parametrize("lines", [[], ["Basic Og=="], ["basic Og=="], ["BASIC  Og=="]])
def test_nobody_is_anonymous(lines: list[str]) -> None:
    assert parse_basic(lines) is ANONYMOUS


def test_the_first_colon_splits() -> None:
    login = parse_basic(basic("robot:a:b:c"))
    assert (login.username, login.secret, login.name) == ("robot", "a:b:c", "robot")


@pytest.mark.parametrize("user", ["", "<token>"])
def test_identity_tokens_are_recognised_as_docker_and_containerd_write_them(user: str) -> None:
    login = parse_basic(basic(f"{user}:refresh"))
    assert login == Login("identity token", LoginKind.IDENTITY_TOKEN, "", "refresh")
    assert login.identity == identity_login("refresh").identity


def test_a_key_file_with_lines_is_a_password() -> None:
    key = '{\n\t"type": "service_account"\r\n}\n'
    assert parse_basic(basic(f"_json_key:{key}")).secret == key


@pytest.mark.parametrize(
    "lines",
    [
        ["Basic"],
        ["Basic "],
        ["Basic Og"],
        ["Basic O g="],
        ["Basic !!!!"],
        ["Basic dTpw,Basic dTpw"],
        ["Basic dTpw x"],
        ["Basic\tdTpw"],
        ["Basic dT-w"],
        [" Basic dTpw"],
        ["dTpw"],
        [""],
        ["Basic dTpw", "Basic dTpw"],
        ["Basic " + "A" * (16 * 1024)],
        basic("no colon"),
        basic(b"\xff:\xff"),
        basic("u\r\nX: y:p"),
        basic("u\0:p"),
        basic("u\x7f:p"),
        basic("u\u2028:p"),
        basic("u:p\0"),
        basic("u:p\x1b[2J"),
        basic("<token>:"),
        basic("<token>:a\nb"),
        basic("u" * 1025 + ":p"),
    ],
    ids=range(25),
)
def test_what_is_no_login_is_refused(lines: list[str]) -> None:
    with pytest.raises(CredentialInvalid):
        parse_basic(lines)


def test_a_password_has_a_limit() -> None:
    with pytest.raises(CredentialInvalid):
        client_login("u", "x" * (16 * 1024 + 1))


@pytest.mark.parametrize("token", ["", "a\nb", "a\0", "x" * (16 * 1024 + 1)])
def test_what_is_no_identity_token_is_refused(token: str) -> None:
    with pytest.raises(CredentialInvalid):
        identity_login(token)


def test_another_scheme_is_distinguished() -> None:
    with pytest.raises(OtherScheme):
        parse_basic(["Bearer abc"])
    with pytest.raises(OtherScheme):
        parse_bearer(["Basic dTpw"])
    with pytest.raises(OtherScheme):
        parse_basic(["Negotiate abc"])


def test_bearer_tokens_are_read() -> None:
    assert parse_bearer([]) is None
    assert parse_bearer(["bearer aA0-._~+/=="]) == "aA0-._~+/=="


@pytest.mark.parametrize("lines", [["Bearer"], ["Bearer a b"], ["Bearer a,b"], ["Bearer é"], ["Bearer a"] * 2])
def test_what_is_no_token_is_refused(lines: list[str]) -> None:
    with pytest.raises(CredentialInvalid):
        parse_bearer(lines)


@given(st.lists(st.text(max_size=60) | st.binary(max_size=40).map(basic).map("".join), max_size=2))
def test_no_header_does_anything_else_than_be_read_or_refused(lines: list[str]) -> None:
    for parse in (parse_basic, parse_bearer):
        with contextlib.suppress(CredentialInvalid):
            found = parse(lines)
            assert not isinstance(found, Login) or found.username.isprintable()


@pytest.mark.parametrize("lines", [basic("canary-user"), basic("canary-user:canary\0"), ["Bearer canary canary"]])
def test_errors_hold_nothing_of_the_credential(lines: list[str]) -> None:
    for parse in (parse_basic, parse_bearer):
        with pytest.raises(CredentialInvalid) as refused:
            parse(lines)
        assert "canary" not in str(refused.value)
        assert lines[0].split()[-1] not in str(refused.value)
