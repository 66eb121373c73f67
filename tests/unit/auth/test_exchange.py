import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.outward import exchange as module
from proxy.auth.outward.exchange import (
    Method,
    TokenRefused,
    TokenUnavailable,
    _outgoing,
    exchange,
    other_method_may_work,
)
from proxy.oci.login import ANONYMOUS, Login
from proxy.transport.limits import Size
from proxy.transport.session import SessionLimits
from tests.unit.auth.support import REFRESH, ROBOT, SCOPE, token_request
from tests.unit.transport.support import Server, serving, sessions

BASIC = "Basic cm9ib3Q6czNjcmV0"
REALM = "https://registry.example/token"


async def answered(server: Server, login: Login = ROBOT, method: Method = "get", realm: str = "/token") -> str:
    """The token that a request brings."""
    async with sessions() as opened:
        request = token_request(server.url + realm, login)
        return (await exchange(opened, request, method)).token


async def test_get_asks_for_one_scope_with_basic() -> None:
    async with serving() as server:
        server.body = '{"token": "abc"}'
        assert await answered(server, realm="/token?account=x") == "abc"
    (request,) = server.requests
    assert dict(request.query) == {"account": "x", "scope": SCOPE, "service": "reg"}
    assert (request.method, request.headers["Authorization"]) == ("GET", BASIC)


async def test_get_without_credentials_has_no_authorization() -> None:
    async with serving() as server:
        server.body = '{"token": "abc"}'
        await answered(server, ANONYMOUS)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("login", "secrets"),
    [
        (ROBOT, {"grant_type": "password", "username": "robot", "password": "s3cret"}),
        (REFRESH, {"grant_type": "refresh_token", "refresh_token": "s3cret-refresh"}),
    ],
)
def test_post_puts_everything_into_the_form(login: Login, secrets: dict[str, str]) -> None:
    sent = _outgoing(token_request(f"{REALM}?a=b", login), "post")
    assert (sent.method, str(sent.url)) == ("POST", f"{REALM}?a=b")
    assert sent.form == {"scope": SCOPE, "service": "reg", "client_id": "scope-proxy", **secrets}
    assert "Authorization" not in sent.headers
    assert "s3cret" not in repr(sent)


SERVICES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["x&scope=repository:evil:push", "x#", "x?scope=y", "x\r\nHost: evil", "x;scope=y", "%26scope%3Dy", "a+b", "ä"]
)
REALMS = st.sampled_from(["", "?a=b", "?scope=repository:evil:push", "?%73cope=x&a=b", "?a=b&scope=x#scope=y"])


@given(service=st.none() | SERVICES, realm=REALMS, repository=st.sampled_from(["a/b", "a&scope=evil", "a#b", "a%26b"]))
def test_nothing_is_smuggled_into_a_token_request(service: str | None, realm: str, repository: str) -> None:
    request = token_request(REALM + realm, ROBOT, service=service, repository=repository)
    sent = _outgoing(request, "get")
    assert sent.url.query.getall("scope") == [f"repository:{repository}:pull"]
    assert sent.url.query.getall("service", []) == ([] if service is None else [service])
    assert (sent.url.host, sent.url.path, sent.url.fragment) == ("registry.example", "/token", "")
    assert str(sent.url).isascii()
    assert str(sent.url).isprintable()


def test_a_realm_on_the_hosts_own_origin_is_not_judged_by_its_address() -> None:
    assert _outgoing(token_request(REALM, ROBOT), "get").named_by is None
    elsewhere = token_request("https://auth.example/token", ROBOT, host="https://registry.example")
    assert _outgoing(elsewhere, "get").named_by == elsewhere.host


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 422])
async def test_a_refusal_tells_the_server_and_the_status(status: int) -> None:
    async with serving() as server:
        server.answers["/token"] = status, {}
        with pytest.raises(TokenRefused, match=rf"token server 127\.0\.0\.1:\d+ answered {status}") as caught:
            await answered(server)
    assert other_method_may_work(caught.value) == (status in {400, 404, 405})


@pytest.mark.parametrize(
    ("status", "header", "seconds"), [(429, "7", 7.0), (500, None, None), (503, "soon", None), (204, None, None)]
)
async def test_trouble_says_when_to_come_back(status: int, header: str | None, seconds: float | None) -> None:
    async with serving() as server:
        server.answers["/token"] = status, {"Retry-After": header} if header else {}
        with pytest.raises(TokenUnavailable, match=f"answered {status}") as caught:
            await answered(server)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_of_a_token_server_are_not_followed(status: int) -> None:
    async with serving() as server, serving() as other:
        server.redirect("/token", f"{other.url}/token", status)
        with pytest.raises(TokenUnavailable, match=f"answered {status}"):
            await answered(server)
    assert other.requests == []


@pytest.mark.parametrize(
    "body",
    ["s3cret", "[]", "{}", '{"token": "s3cret with spaces"}', "[" * 60_000, '{"token": "s3cret"' + " " * 70_000, ""],
)
async def test_an_answer_without_a_token_is_an_error_that_does_not_repeat_it(body: str) -> None:
    async with serving() as server:
        server.body = body
        with pytest.raises(TokenUnavailable) as caught:
            await answered(server)
    assert "s3cret" not in str(caught.value)


async def test_an_endless_life_is_bounded() -> None:
    async with serving() as server:
        server.body = '{"token": "abc", "expires_in": 1' + "0" * 400 + "}"
        assert await answered(server) == "abc"


async def test_a_token_server_that_does_not_answer_is_given_up() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        async with sessions() as opened:
            request = token_request(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token", ROBOT)
            with pytest.raises(TokenUnavailable, match="did not answer within"):
                await exchange(opened, request, "get", timeout=0.2)
        await left.wait()


async def test_a_server_that_nobody_can_reach_is_unavailable() -> None:
    async with serving() as server:
        url = server.url
    async with sessions() as opened:
        with pytest.raises(TokenUnavailable, match=r"^token server \S+ cannot be reached: Connection refused"):
            await exchange(opened, token_request(f"{url}/token", ROBOT), "get")


async def test_a_server_for_which_too_many_wait_is_unavailable() -> None:
    async with serving() as server:
        request = token_request(f"{server.url}/token", ROBOT)
        hosts = f"hosts: {{'{server.origin.authority}': {{maxConnections: 2}}}}"
        async with sessions(hosts, limits=SessionLimits(queue=0)) as opened:
            for _ in range(2):
                await opened.host_limit(request.realm_origin).acquire(Size.SMALL)
            with pytest.raises(TokenUnavailable, match=r"^token server 127\.0\.0\.1:\d+: 0 requests already wait"):
                await exchange(opened, request, "get")
    assert server.requests == []


async def test_trouble_with_tls_is_reported_in_the_words_of_tls() -> None:
    async with serving() as server:
        request = token_request(f"{server.url.replace('http:', 'https:')}/token", ROBOT)
        async with sessions() as opened:
            with pytest.raises(TokenUnavailable, match=r"^token server \S+ failed in TLS: \w+"):
                await exchange(opened, request, "get")


async def test_an_answer_that_is_too_long_is_no_token() -> None:
    async with serving() as server:
        server.body = " " * (module.BODY_LIMIT + 1)
        async with sessions() as opened:
            with pytest.raises(TokenUnavailable, match=f"sent more than {module.BODY_LIMIT} bytes"):
                await exchange(opened, token_request(f"{server.url}/token", ROBOT), "get")
