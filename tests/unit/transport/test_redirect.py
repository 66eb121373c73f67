import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import pytest

from proxy.config.address import Origin
from proxy.transport.redirect import Followed, RedirectRefused, _target, follow
from proxy.transport.session import Sessions
from tests.unit.transport.support import PLAIN, SECRETS, Server, outgoing, serving, sessions

pytestmark = pytest.mark.security


async def followed(server: Server, opened: Sessions, path: str = "/start") -> tuple[Followed, str]:
    """The answer to a request with secrets, and its body."""
    answer = await follow(opened, outgoing(f"{server.url}{path}", {**SECRETS, **PLAIN}))
    return answer, await answer.response.text()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_within_the_origin_everything_is_sent_again(status: int) -> None:
    async with serving() as server, sessions() as opened:
        server.redirect("/start", "end?a=%2F", status)
        answer, body = await followed(server, opened)
    assert (answer.elsewhere, body) == (False, "content")
    assert server.requests[1].raw_path == "/end?a=%2F"
    assert server.headers[1]["Authorization"] == "Bearer s3cret"


async def test_another_port_of_the_same_host_gets_no_secret() -> None:
    async with serving() as registry, serving() as store, sessions() as opened:
        registry.redirect("/start", f"{store.url}/object?X-Amz-Signature=%2b%2F&a=b%20c")
        answer, body = await followed(registry, opened)
    assert (answer.elsewhere, body) == (True, "content")
    (headers,) = store.headers
    assert store.requests[0].raw_path == "/object?X-Amz-Signature=%2b%2F&a=b%20c"
    assert {name: headers[name] for name in PLAIN} == PLAIN
    assert not {"Authorization", "Cookie", "Proxy-Authorization", "X-Auth", "Referer"} & set(headers)
    assert "s3cret" not in str(headers)


async def test_secrets_stay_away_on_every_further_hop() -> None:
    async with serving() as registry, serving() as first, serving() as second, sessions() as opened:
        registry.redirect("/start", f"{first.url}/a")
        first.redirect("/a", "/b")
        first.redirect("/b", f"{second.url}/c")
        answer, _ = await followed(registry, opened)
    assert answer.elsewhere
    assert len([*first.headers, *second.headers]) == 3
    assert all("s3cret" not in str(headers) for headers in (*first.headers, *second.headers))


async def test_a_posted_form_stays_at_the_origin() -> None:
    async with serving() as registry, serving() as other, sessions() as opened:
        registry.redirect("/start", f"{other.url}/x")
        request = replace(outgoing(f"{registry.url}/start"), method="POST", form={"password": "s3cret"})
        answer = await follow(opened, request)
    assert answer.elsewhere
    assert other.headers[0].get("Content-Length", "0") == "0"


@pytest.mark.parametrize(("count", "followable"), [(1, True), (5, True), (6, False)])
async def test_at_most_five_are_followed(count: int, followable: bool) -> None:
    async with serving() as server, sessions() as opened:
        for number in range(count):
            server.redirect(f"/{number}", f"/{number + 1}")
        if followable:
            assert (await followed(server, opened, "/0"))[1] == "content"
        else:
            with pytest.raises(RedirectRefused, match="more than 5 times"):
                await followed(server, opened, "/0")
    assert len(server.requests) == min(count, 5) + 1


async def test_a_loop_ends() -> None:
    async with serving() as one, serving() as two, sessions() as opened:
        one.redirect("/start", f"{two.url}/back")
        two.redirect("/back", f"{one.url}/start")
        with pytest.raises(RedirectRefused, match="more than 5 times"):
            await followed(one, opened)
    assert len(one.requests) + len(two.requests) == 6


async def test_credentials_do_not_come_back_to_a_path_that_another_server_chose() -> None:
    async with serving() as registry, serving() as other, sessions() as opened:
        registry.redirect("/start", f"{other.url}/away")
        other.redirect("/away", f"{registry.url}/chosen-elsewhere")
        request = replace(outgoing(f"{registry.url}/start"), headers={"Authorization": "Bearer s3cret"})
        await follow(opened, request)
    assert [headers.get("Authorization") for headers in registry.headers] == ["Bearer s3cret", None]


REGISTRY = Origin.parse("http://registry.example")

BAD_LOCATIONS = [
    "",
    "x" * 9000,
    "https://user:s3cret@store.example/",
    "ftp://store.example/",
    "file:///etc/passwd",
    "gopher://store.example/",
    "http://[::1",
    "http://store.example:99999/",
    "http://store.example./",
    "http://störe.example/",
    "http://store.example/a b",
    "http://store.example\\@evil.example/",
    "/a\tb",
    "/a\r\nX: y",
    "\x00",
    "/\ud800",
]


@pytest.mark.parametrize("location", BAD_LOCATIONS)
async def test_a_location_that_cannot_be_used_is_refused(location: str) -> None:
    async with sessions() as opened:
        with pytest.raises(RedirectRefused) as caught:
            _target(opened, outgoing("http://registry.example/start"), location, REGISTRY)
    assert "s3cret" not in str(caught.value)


async def test_a_redirect_without_location_is_refused() -> None:
    async with serving() as server, sessions() as opened:
        server.answers["/start"] = 307, {}
        with pytest.raises(RedirectRefused, match="without a usable Location"):
            await followed(server, opened)


@pytest.mark.parametrize("smuggled", [b"\rX-Evil: y", b"\x00", b"\nX-Evil: y"])
async def test_raw_control_bytes_in_a_location_reach_nobody(smuggled: bytes) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        first = b"HTTP/1.1 307 R\r\nLocation: /x" + smuggled + b"\r\nContent-Length: 0\r\n\r\n"
        writer.write(first if len(heads) == 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
        opened = await stack.enter_async_context(sessions())
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/start"
        with contextlib.suppress(aiohttp.ClientError, RedirectRefused):  # whichever part refuses it
            await follow(opened, outgoing(url))
    assert heads
    assert not [head for head in heads if b"X-Evil" in head or b"\x00" in head]


@pytest.mark.parametrize(
    ("sender", "location", "allowed"),
    [
        ("https://r.example", "https://store.example/x", True),
        ("https://r.example", "//store.example/x", True),
        ("https://r.example", "http://r.example/x", False),
        ("https://r.example", "http://store.example/x", False),
        ("https://r.example", "http://listed.example/x", True),
        ("https://r.example", "http://listed.example:8080/x", False),
        ("http://r.example", "http://store.example/x", True),
        ("http://r.example", "https://store.example/x", True),
    ],
)
async def test_from_https_to_http_only_where_it_is_configured(sender: str, location: str, allowed: bool) -> None:
    settings = "hosts: {r.example: {redirects: ['http://listed.example']}}"
    async with sessions(settings) as opened:
        if allowed:
            _, origin = _target(opened, outgoing(f"{sender}/start"), location, Origin.parse(sender))
            assert origin == Origin.parse(location if ":" in location else f"https:{location}")
        else:
            with pytest.raises(RedirectRefused, match=r"add http://.* to redirects of the host"):
                _target(opened, outgoing(f"{sender}/start"), location, Origin.parse(sender))


async def test_a_refusal_never_shows_the_query() -> None:
    async with sessions() as opened:
        with pytest.raises(RedirectRefused) as caught:
            _target(
                opened,
                outgoing("https://r.example/a"),
                "http://store.example/x?X-Amz-Signature=s3cret",
                Origin.parse("https://r.example"),
            )
    assert "s3cret" not in str(caught.value)
