"""The clients of the soak: each pulls something as a node does, and verifies every byte of what it gets."""

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from benchmarks.soak.content import SMALL, Item
from benchmarks.soak.site import Site
from benchmarks.soak.tally import Tally
from tests.fakes.client import Got, NodeClient, check, read_answer, read_head
from tests.fakes.proxy import manifest

HANG_SECONDS = 90.0
"""After so long a request counts as hung: the budgets of the proxy are a few seconds here."""
STAMPEDE = 6
"""Clients that pull the same new layer at once."""
EXPECTED_REFUSALS = frozenset({502, 503, 504})
"""What a node may get for content that exists, while its registry fails."""
ABSENT = f"sha256:{hashlib.sha256(b'absent').hexdigest()}"
MALFORMED = (
    "/v2/UPPER/manifests/1?ns=one.example",
    "/v2/../blobs/x",
    "/v2/library/app0/blobs/sha256:beef?ns=one.example",
)


class Nodes:
    """Clients of one proxy."""

    def __init__(self, address: str, sites: Sequence[Site], chance: random.Random, tally: Tally) -> None:
        self._client = NodeClient(address)
        self._sites = sites
        self._chance = chance
        self._tally = tally
        self._kinds: dict[str, tuple[float, Callable[[str], Awaitable[None]]]] = {
            "tag": (20, lambda kind: self._tag(kind, "GET")),
            "head": (10, lambda kind: self._tag(kind, "HEAD")),
            "manifest": (10, lambda kind: self._item(kind, self._site().any().manifest)),
            "small hot": (15, lambda kind: self._item(kind, self._small(hot=True))),
            "small cold": (8, lambda kind: self._item(kind, self._small(hot=False))),
            "large hot": (4, lambda kind: self._item(kind, self._site().hot().large)),
            "large cold": (2, lambda kind: self._item(kind, self._site().any().large)),
            "head blob": (3, self._head_blob),
            "range hot": (5, lambda kind: self._range(kind, self._site().hot().large)),
            "range cold": (2, lambda kind: self._range(kind, self._site().any().large)),
            "leave": (3, self._leave),
            "pull": (2, self._pull),
            "stampede": (0.3, self._stampede),
            "absent": (3, self._absent),
            "malformed": (2, self._malformed),
            "tags list": (2, self._list),
        }

    async def one(self) -> None:
        """Let one client of a random kind come and go."""
        weights = [weight for weight, _ in self._kinds.values()]
        kind = self._chance.choices(list(self._kinds), weights)[0]
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await self._kinds[kind][1](kind)
        except TimeoutError:
            self._tally.add(kind, "hung", f"no end within {HANG_SECONDS:.0f} s")
        except (asyncio.IncompleteReadError, OSError):
            self._tally.add(kind, "cut")
        except (AssertionError, ValueError, KeyError) as error:  # an answer that breaks a rule for all of them
            self._tally.add(kind, "unexpected", f"{type(error).__name__}: {error}"[:500])

    async def _tag(self, kind: str, method: str) -> None:
        site = self._site()
        target = site.hot().tag
        got = await self._get(method, target)
        if self._refused(kind, target, got):
            return
        digest = got.header("Docker-Content-Digest")
        right = digest in site.tags[target] and (method == "HEAD" or got.sha256 == digest)
        self._end(kind, target, right=right, got=got)

    async def _item(self, kind: str, item: Item) -> None:
        self._judge(kind, item, await self._get("GET", item.target), 0, item.content.size)

    async def _head_blob(self, kind: str) -> None:
        item = self._site().any().large
        got = await self._get("HEAD", item.target)
        if not self._refused(kind, item.target, got):
            self._end(kind, item.target, right=got.header("Content-Length") == str(item.content.size), got=got)

    async def _range(self, kind: str, item: Item) -> None:
        size = item.content.size
        start = self._chance.randrange(size)
        stop = size if self._chance.choice([True, False]) else self._chance.randrange(start, size) + 1
        last = "" if stop == size else str(stop - 1)
        got = await self._get("GET", item.target, ("Range", f"bytes={start}-{last}"))
        self._judge(kind, item, got, start, stop)

    async def _leave(self, kind: str) -> None:
        item = self._chance.choice([self._site().hot(), self._site().any()]).large
        left = self._chance.randrange(item.content.size)
        async with self._client.opened("GET", item.target) as (reader, _):
            status, _, _ = await read_head(reader)
            while status == HTTPStatus.OK and left > 0 and (piece := await reader.read(min(left, 65536))):
                left -= len(piece)
        self._tally.add(kind, "left")

    async def _pull(self, kind: str) -> None:
        """Pull a whole image on one connection, as containerd does."""
        image = self._site().any()
        async with self._client.connected() as (reader, writer):
            for item in (image.manifest, *image.blobs):
                writer.write(f"GET {item.target} HTTP/1.1\r\nHost: {self._client.host}\r\n\r\n".encode())
                got = await read_answer(reader, "GET", keep_body=False)
                self._judge(kind, item, got, 0, item.content.size)
                if not got.whole or got.status != HTTPStatus.OK or got.header("Connection") == "close":
                    return

    async def _stampede(self, kind: str) -> None:
        site = self._site()
        site.grow()
        item = site.images[-1].large
        await asyncio.gather(*(self._item(kind, item) for _ in range(STAMPEDE)))

    async def _absent(self, kind: str) -> None:
        target = manifest(ABSENT, "library/app0", self._site().name)
        got = await self._get("GET", target, keep_body=True)
        if got.status == HTTPStatus.NOT_FOUND:
            self._tally.add(kind, "ok")
        elif not self._refused(kind, target, got):
            self._tally.add(kind, "wrong", f"{target} does not exist, and was answered {got}")

    async def _malformed(self, kind: str) -> None:
        target = self._chance.choice(MALFORMED)
        got = await self._get("GET", target, keep_body=True)
        outcome = "ok" if got.status in {400, 404} else "unexpected"
        self._tally.add(kind, outcome, f"{target}: {got}")

    async def _list(self, kind: str) -> None:
        target = f"/v2/library/app{self._chance.randrange(2)}/tags/list?ns={self._site().name}"
        got = await self._get("GET", target, keep_body=True)
        if not self._refused(kind, target, got):
            self._end(kind, target, right=b'"tags"' in got.body, got=got)

    async def _get(self, method: str, target: str, *headers: tuple[str, str], keep_body: bool = False) -> Got:
        async with self._client.opened(method, target, *headers) as (reader, _):
            got = await read_answer(reader, method, keep_body=keep_body)
        if got.whole and (keep_body or got.status < HTTPStatus.BAD_REQUEST):
            check(got, method)
        return got

    def _judge(self, kind: str, item: Item, got: Got, start: int, stop: int) -> None:
        if self._refused(kind, item.target, got):
            return
        if got.status == HTTPStatus.OK:  # a range may be answered with everything (RFC 9110, 14.2)
            right = got.sha256 == item.digest
        else:
            right = got.size == stop - start and got.sha256 == item.sha256(start, stop)
        self._end(kind, item.target, right=right, got=got)

    def _refused(self, kind: str, target: str, got: Got) -> bool:
        """Whether an answer is no content; then it has been counted."""
        if got.status < HTTPStatus.BAD_REQUEST:
            return False
        is_denied = got.status == HTTPStatus.FORBIDDEN and time.monotonic() < self._named(target).may_deny_until
        is_expected = is_denied or got.status in EXPECTED_REFUSALS
        outcome = f"refused {got.status}" if is_expected else "unexpected"
        self._tally.add(kind, outcome, f"{target}: {got}")
        return True

    def _end(self, kind: str, target: str, *, right: bool, got: Got) -> None:
        """Count an answer with content; where it was cut nobody takes its bytes for complete."""
        outcome = "cut" if not got.whole else "ok" if right else "wrong"
        self._tally.add(kind, outcome, f"{target}: {got}")

    def _site(self) -> Site:
        return self._chance.choice(self._sites)

    def _named(self, target: str) -> Site:
        return next(site for site in self._sites if target.endswith(f"ns={site.name}"))

    def _small(self, *, hot: bool) -> Item:
        image = self._site().hot() if hot else self._site().any()
        return self._chance.choice([item for item in image.blobs if item.content.size < SMALL])
