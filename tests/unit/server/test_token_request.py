"""Requests for a token, as the clients in use send them, and as nobody should."""

import base64
import contextlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import NameInvalid, Unauthorized, Unsupported
from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.server.clients.token_endpoint import ClientTokenRequest, ParsedTokenRequest, parse_token_request

ROBOT = Login("robot", LoginKind.PASSWORD, "robot", "p:w")
REFRESH = Login("identity token", LoginKind.IDENTITY_TOKEN, "", "refresh")
BASIC = ("Basic " + base64.b64encode(b"robot:p:w").decode(),)
FORM = "application/x-www-form-urlencoded"
ONE, TWO = "repository:prefix/app:pull", "repository:app:pull"


def get(*query: tuple[str, str], authorization: tuple[str, ...] = ()) -> ParsedTokenRequest:
    return parse_token_request(ClientTokenRequest("GET", query, authorization))


def post(
    *fields: tuple[str, str], raw: bytes | None = None, kind: str = FORM, authorization: tuple[str, ...] = ()
) -> ParsedTokenRequest:
    form = urlencode(fields).encode() if raw is None else raw
    return parse_token_request(ClientTokenRequest("POST", (), authorization, kind, form))


def test_containerd_without_a_credential() -> None:
    parsed = get(("scope", ONE), ("scope", TWO), ("service", "icr.io"))
    assert parsed == ParsedTokenRequest(ANONYMOUS, "icr.io", (ONE, TWO))


def test_containerd_with_a_password() -> None:
    parsed = post(
        ("client_id", "containerd-client"),
        ("grant_type", "password"),
        ("password", "p:w"),
        ("scope", f"{ONE} {TWO}"),
        ("service", "icr.io"),
        ("username", "robot"),
        kind=f"{FORM}; charset=utf-8",
    )
    assert parsed == ParsedTokenRequest(ROBOT, "icr.io", (f"{ONE} {TWO}",))


def test_containerd_with_an_identity_token() -> None:
    parsed = post(("grant_type", "refresh_token"), ("refresh_token", "refresh"), ("scope", ONE), ("service", ""))
    assert parsed == ParsedTokenRequest(REFRESH, None, (ONE,))


def test_docker_at_login() -> None:
    parsed = get(
        ("account", "robot"),
        ("client_id", "docker"),
        ("offline_token", "true"),
        ("service", "scope-proxy"),
        authorization=BASIC,
    )
    assert parsed == ParsedTokenRequest(ROBOT, "scope-proxy", ())


def test_docker_that_asks_for_a_refresh_token() -> None:
    fields = [("grant_type", "password"), ("username", "robot"), ("password", "p:w"), ("access_type", "offline")]
    assert post(*fields).login == ROBOT


def test_skopeo_with_a_password_and_with_none() -> None:
    query = [("account", "robot"), ("scope", ONE), ("service", "icr.io")]
    assert get(*query, authorization=BASIC) == ParsedTokenRequest(ROBOT, "icr.io", (ONE,))
    assert get(("scope", ONE), authorization=("Basic Og==",)).login == ANONYMOUS


def test_skopeo_with_an_identity_token_repeats_the_scope_field() -> None:
    fields = [("scope", ONE), ("scope", TWO), ("grant_type", "refresh_token"), ("refresh_token", "refresh")]
    assert post(*fields, ("client_id", "containers/image")) == ParsedTokenRequest(REFRESH, None, (ONE, TWO))


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("scope", ONE),),
        (("grant_type", "password"),),
        (("grant_type", "password"), ("username", ""), ("password", "")),
        (("grant_type", "refresh_token"), ("refresh_token", "")),
    ],
)
def test_a_form_without_a_credential_is_anonymous(fields: tuple[tuple[str, str], ...]) -> None:
    assert post(*fields).login == ANONYMOUS


def test_a_form_may_come_with_basic() -> None:
    assert post(("scope", ONE), authorization=BASIC) == ParsedTokenRequest(ROBOT, None, (ONE,))


def test_an_identity_token_by_its_user_name() -> None:
    assert post(("grant_type", "password"), ("username", "<token>"), ("password", "refresh")).login == REFRESH


PASSWORD = [("grant_type", "password"), ("username", "u"), ("password", "canary")]


@pytest.mark.parametrize(
    "fields",
    [
        [*PASSWORD, ("password", "other")],
        [*PASSWORD, ("username", "u")],
        [*PASSWORD, ("grant_type", "password")],
        [*PASSWORD, ("refresh_token", "canary")],
        [*PASSWORD, ("service", "a"), ("service", "b")],
        PASSWORD[1:],
        [("refresh_token", "canary")],
        [("grant_type", "refresh_token"), ("refresh_token", "canary"), ("refresh_token", "canary")],
        [("grant_type", "refresh_token"), ("username", "u"), ("password", "canary")],
        [("grant_type", "password"), ("refresh_token", "canary")],
        [("grant_type", "access_token"), ("access_token", "canary")],
        [("grant_type", "client_credentials")],
        [("grant_type", "password"), ("username", "u\r\n"), ("password", "canary")],
        [("grant_type", "refresh_token"), ("refresh_token", "canary\n")],
        [*PASSWORD, *[("x", "")] * 62],
    ],
    ids=range(15),
)
def test_ambiguous_and_unknown_forms_are_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(NameInvalid) as refused:
        post(*fields)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"canary",
        b"&&",
        b"a=1;b=2&canary",
        b"username=%ff",
        b"username=\xff",
        b"username=%zz",
        b"username=%",
        b"scope=" + b"a" * (64 * 1024),
        b"a=1&" * 100 + b"a=1",
    ],
    ids=range(9),
)
def test_what_is_no_form_is_refused(raw: bytes) -> None:
    with pytest.raises(NameInvalid) as refused:
        post(raw=raw)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data; boundary=x", f"text/plain; {FORM}"])
def test_other_bodies_are_refused(kind: str) -> None:
    with pytest.raises(NameInvalid):
        post(("grant_type", "password"), kind=kind)


def test_two_credentials_in_two_places_are_refused() -> None:
    with pytest.raises(NameInvalid):
        post(*PASSWORD, authorization=BASIC)


def test_another_scheme_is_sent_basic() -> None:
    for ask in (get, post):
        with pytest.raises(Unauthorized) as refused:
            ask(authorization=("Bearer canary",))
        assert refused.value.challenge.startswith('Basic realm="scope-proxy"')
        assert "canary" not in str(refused.value)


def test_a_malformed_header_is_refused() -> None:
    with pytest.raises(NameInvalid):
        get(authorization=("Basic canary!",))


@pytest.mark.parametrize("query", [[("service", "a")] * 2, [("scope", ONE)] * 65])
def test_queries_have_limits(query: list[tuple[str, str]]) -> None:
    with pytest.raises(NameInvalid):
        get(*query)


def test_credentials_in_a_query_are_not_read() -> None:
    query = (("grant_type", "password"), ("username", "u"), ("password", "canary"), ("refresh_token", "canary"))
    assert get(*query).login == ANONYMOUS
    parsed = parse_token_request(ClientTokenRequest("POST", query, (), FORM, b""))
    assert parsed == ParsedTokenRequest(ANONYMOUS, None, ())


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_other_methods_are_not_served(method: str) -> None:
    with pytest.raises(Unsupported):
        parse_token_request(ClientTokenRequest(method))


def test_a_request_shows_no_secret() -> None:
    request = ClientTokenRequest("POST", (), ("Basic canary",), FORM, b"password=canary")
    assert "canary" not in repr(request)
    assert "p:w" not in repr(get(authorization=BASIC))


@given(
    st.binary(max_size=100)
    | st.dictionaries(st.text(max_size=8), st.text(max_size=8)).map(lambda d: urlencode(d).encode())
)
def test_every_form_is_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(NameInvalid):
        assert post(raw=raw).login.username.isprintable()


@given(st.text(max_size=30), st.text(max_size=30), st.lists(st.text(max_size=20), max_size=5))
def test_forms_are_decoded_as_clients_encode_them(service: str, password: str, scopes: list[str]) -> None:
    fields = [("grant_type", "password"), ("service", service), *(("scope", scope) for scope in scopes)]
    parsed = post(*fields)
    assert (parsed.service, parsed.scopes) == (service or None, tuple(scopes))
    try:
        login = post(("grant_type", "password"), ("username", "u"), ("password", password)).login
    except NameInvalid:
        assert not password.isprintable()
    else:
        assert login.secret == password
