"""A limit of the proxy itself is never an unreachable upstream: no last proof counts because of it."""

import asyncio
import os
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from proxy.testbed.tokens import Rules
from proxy.transport.session import SESSION_LIMITS, SessionLimits
from tests.cache.serving import cached, eventually, read_answer
from tests.fakes.changes import Challenge, Reply
from tests.fakes.client import WITHIN, Got
from tests.fakes.interrupts import AFTER_END, BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import Match, on
from tests.fakes.proxy import AT_ONCE, REG, blob, layer_of, manifest, metric
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import ACCOUNTS, GUEST, OWNER, PRIVATE, PUBLIC, SECOND, Scene, login, revoke, warm
from tests.security.raw import connected

pytestmark = [pytest.mark.security, pytest.mark.slow]

PLACES = 2
"""Requests that the registry gets at one time: the least that the configuration takes."""
TIMEOUTS = {"manifest": "1s", "blob": "1s"}
BASIC = Rules(accounts=ACCOUNTS, dialect="basic", anonymous=True)
BEARER = Rules(accounts=ACCOUNTS, anonymous=True)
LATER = {"Retry-After": "200"}
THREADS = 64
"""More than the event loop has."""
NAMELESS = on(repository="team/app").where(lambda call: not call.header("Authorization"))
STRANGERS = on("HEAD", "manifest", repository="team/open")
TOKEN_OF_A_STRANGER = on(kind="token").where(lambda call: not call.header("Authorization"))


@dataclass(frozen=True, slots=True)
class Owned(Scene):
    """What the owner has pulled, and the server that gives the tokens for it."""

    tokens: ScriptedRegistry

    @property
    def attempts_of_the_owner(self) -> Mapping[str, tuple[str, str]]:
        """Requests for what the owner has pulled, all of which is stored."""
        digest, _ = layer_of(self.private)
        return {
            "tag": ("GET", manifest(name=PRIVATE)),
            "tag-head": ("HEAD", manifest(name=PRIVATE)),
            "digest": ("GET", manifest(self.private.digest, PRIVATE)),
            "blob": ("GET", blob(digest, PRIVATE)),
            "blob-head": ("HEAD", blob(digest, PRIVATE)),
        }

    async def owner(self, attempt: str = "tag") -> Got:
        """What the owner gets."""
        method, target = self.attempts_of_the_owner[attempt]
        return await self.node.send(method, target, login(OWNER))

    async def becomes_refused(self) -> None:
        """The owner is refused as soon as the upstream is reachable."""
        async with asyncio.timeout(WITHIN):
            while (got := await self.owner()).status != 403:
                assert got.status == 503


@asynccontextmanager
async def owned(
    directory: Path,
    rules: Rules,
    policy: str = "lastProof",
    *,
    named: bool = False,
    limits: SessionLimits = SESSION_LIMITS,
) -> AsyncIterator[Owned]:
    """A warm cache whose owner has just pulled; what the upstream last allowed counts while it is unreachable.

    Its last proof is too old to count otherwise. With `named` the registry is known by a name.
    """
    private, public = make_image("team/app", "1"), make_image("team/open", "1")
    clients = {"auth": "upstream", "allowAnonymous": True, "proofAge": "1ms", "whenUnreachable": policy}
    async with (
        ScriptedRegistry([private, public], rules) as registry,
        ScriptedRegistry([], rules, issuer=registry.issuer) as tokens,
        cached(
            [registry.url.replace("127.0.0.1", "localhost") if named else registry.url],
            directory,
            listeners=[{"address": "127.0.0.1:0", "clients": clients}],
            host={"maxConnections": PLACES, "realms": [tokens.url]},
            timeouts=TIMEOUTS,
            tuning=replace(AT_ONCE, session_limits=limits),
        ) as node,
    ):
        if rules is BASIC:  # where everybody may pull, credentials are not used
            registry.script(NAMELESS, Challenge(('Basic realm="strict"',)))
        yield Owned(private, public, registry, node, tokens)


@asynccontextmanager
async def stalled(played: Owned, count: int, taken: Match, reached: Callable[[], bool]) -> AsyncIterator[None]:
    """So many anonymous requests for a public repository, which the upstream does not answer."""
    until = asyncio.Event()
    for server in (played.registry, played.tokens):
        server.script(taken, Stall(BEFORE_HEADERS, until))
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(played.node.get(manifest(f"tag{number}", PUBLIC)))
        try:
            await eventually(reached)
            yield
        finally:
            until.set()


@asynccontextmanager
async def busy_places(played: Owned, waiting: int = 0) -> AsyncIterator[None]:
    """Strangers have all requests that the registry gets at one time, and some of them wait for their turn."""
    played.registry.record.clear()

    def reached() -> bool:
        inside = played.registry.record.of("manifest", "HEAD", "team/open")
        return len(inside) >= PLACES and metric("scope_proxy_upstream_queue", upstream=REG) >= waiting

    async with stalled(played, PLACES + waiting, STRANGERS, reached):
        yield


def full_queue(played: Owned) -> AbstractAsyncContextManager[None]:
    """Strangers have all places, and all that there are to wait for one."""
    return busy_places(played, waiting=1)


@asynccontextmanager
async def busy_token_server(played: Owned) -> AsyncIterator[None]:
    """A stranger has the only connection to the token server that the registry names."""
    played.tokens.record.clear()
    async with stalled(played, 1, TOKEN_OF_A_STRANGER, lambda: bool(played.tokens.record.of("token"))):
        yield


Limit = Callable[[Owned], AbstractAsyncContextManager[None]]

LIMITS: Mapping[str, tuple[Rules, Limit, SessionLimits]] = {
    "places": (BASIC, busy_places, SESSION_LIMITS),
    "queue": (BASIC, full_queue, SessionLimits(queue=1)),
    "token-places": (BEARER, busy_places, SESSION_LIMITS),
    "token-queue": (BEARER, full_queue, SessionLimits(queue=1)),
    "token-connections": (BEARER, busy_token_server, SessionLimits(named_connections=1)),
}
"""What of ours can be used up, by whom, and how little of it there is."""


@pytest.mark.parametrize("limit", LIMITS)
async def test_who_waits_for_a_limit_of_ours_is_not_served_by_the_last_proof(tmp_path: Path, limit: str) -> None:
    rules, reached, limits = LIMITS[limit]
    async with owned(tmp_path / "cache", rules, limits=limits) as played:
        if "connections" in limit:
            played.registry.rules = replace(rules, realm=f"{played.tokens.url}/token")
        await warm(played)
        revoke(played.registry, GUEST)
        async with reached(played):
            got = await played.owner()
            assert got.status == 503
            assert got.code == "TOOMANYREQUESTS"
        await played.becomes_refused()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing more can be opened; connections that there are stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest := os.dup(0))  # the first that is free
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("named", [False, True], ids=["connect", "resolve"])
async def test_no_last_proof_counts_because_we_have_no_descriptor_left(tmp_path: Path, *, named: bool) -> None:
    async with owned(tmp_path / "cache", BASIC, named=named) as played:
        await warm(played)
        played.registry.script(Match(), Cut(AFTER_END))  # no connection is kept
        assert (await played.owner()).status == 200
        revoke(played.registry, GUEST)
        async with connected(played.node) as (reader, writer):
            writer.write(b"GET /v2/ HTTP/1.1\r\nHost: p\r\nAuthorization: Basic Og==\r\n\r\n")
            assert (await read_answer(reader, "GET")).status == 200
            with no_descriptors():
                name, value = login(OWNER)
                writer.write(f"GET {manifest(name=PRIVATE)} HTTP/1.1\r\nHost: p\r\n{name}: {value}\r\n\r\n".encode())
                got = await read_answer(reader, "GET")
        assert got.status == 503
        await played.becomes_refused()


@contextmanager
def busy_threads() -> Iterator[None]:
    """Something that hangs, such as a disk, keeps all threads of the event loop."""
    end, loop = threading.Event(), asyncio.get_running_loop()
    for _ in range(THREADS):
        loop.run_in_executor(None, end.wait, WITHIN)
    try:
        yield
    finally:
        end.set()


async def test_no_last_proof_counts_because_a_name_is_not_looked_up(tmp_path: Path) -> None:
    async with owned(tmp_path / "cache", BASIC, named=True, limits=SessionLimits(dns_seconds=0)) as played:
        await warm(played)
        played.registry.script(Match(), Cut(AFTER_END))
        assert (await played.owner()).status == 200
        revoke(played.registry, GUEST)
        with busy_threads():
            assert (await played.owner()).status == 403


LIMITED: Mapping[str, tuple[Match, Reply]] = {
    "head": (on("HEAD"), Reply(429)),
    "retry-after": (on("HEAD"), Reply(429, headers=LATER)),
    "date": (on("HEAD"), Reply(429, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})),
    "token": (on(kind="token"), Reply(429)),
    "token-retry-after": (on(kind="token"), Reply(429, headers=LATER)),
}
"""Ways in which a registry, or its token server, says that there were too many requests."""


@pytest.mark.parametrize("policy", ["deny", "lastProof"])
@pytest.mark.parametrize("limited", LIMITED)
async def test_a_429_is_an_upstream_that_cannot_be_asked(tmp_path: Path, limited: str, policy: str) -> None:
    async with owned(tmp_path / "cache", BEARER, policy) as played:
        await warm(played)
        played.registry.script(*LIMITED[limited])
        for _ in range(2):  # the second time without a request, after a Retry-After
            for attempt in played.attempts_of_the_owner:
                got = await played.owner(attempt)
                assert got.status == (200 if policy == "lastProof" else 503), (attempt, got)
            other = await played.node.get(manifest(name=PRIVATE), login(SECOND))
            assert other.status == 503
