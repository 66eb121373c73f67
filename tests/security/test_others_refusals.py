"""What is refused to one client locks no other one out, and is reported to nobody else."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached
from tests.fakes.changes import Challenge, Change, Reply
from tests.fakes.client import Got, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import Match, on
from tests.fakes.proxy import REWRITES, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import ACCOUNTS, OWNER, PUBLIC, Header, login, scene

pytestmark = pytest.mark.security

ANONYMOUS = {"allowAnonymous": True}
BEARER = Rules(accounts=ACCOUNTS, anonymous=True)
BASIC = Rules(accounts=ACCOUNTS, anonymous=True, dialect="basic")
EMPTY: Header = ("Authorization", "Basic Og==")
WRONG = replace(OWNER, password="canary-wrong")
TRIES = 5

_NAMELESS = Match(predicate=lambda call: not call.header("Authorization"))
_PRIVATE = _NAMELESS.where(lambda call: "app" in call.repository)
_TOKEN = replace(_NAMELESS, kind="token").where(lambda call: "/open:" not in call.value("scope"))
_TOKEN_USED = on(repository="team/app").with_header("Authorization")

REFUSALS: Mapping[str, tuple[Rules, Match, Change, tuple[Header, ...], str]] = {
    "token-server": (BEARER, _TOKEN, Reply(401), (), "/manifests/tag{0}"),
    "token-server-empty-login": (BEARER, _TOKEN, Reply(401), (EMPTY,), "/manifests/tag{0}"),
    "registry": (BEARER, _TOKEN_USED, Reply(401), (), "/manifests/tag{0}"),
    "basic": (BASIC, _PRIVATE, Challenge(('Basic realm="r"',)), (), "/manifests/tag{0}"),
    "basic-empty-login": (BASIC, _PRIVATE, Challenge(('Basic realm="r"',)), (EMPTY,), "/manifests/tag{0}"),
    "no-challenge": (BASIC, _PRIVATE, Reply(401), (), "/manifests/tag{0}"),
    "blobs": (BASIC, _PRIVATE, Reply(401), (), "/blobs/sha256:{0:064}"),
    "tags": (BASIC, _PRIVATE, Reply(401), (), "-{0}/tags/list"),
}
"""Ways in which a registry says 401 to a client without a credential, and what is requested."""


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_is_refused_to_nameless_clients_keeps_no_nameless_client_from_pulling(
    tmp_path: Path, refusal: str
) -> None:
    rules, taken, answer, headers, target = REFUSALS[refusal]
    async with scene(tmp_path / "cache", rules, clients=ANONYMOUS) as played:
        played.registry.script(taken, answer)
        for number in range(TRIES):
            got = await played.node.get(f"/v2/library/app{target.format(number)}?ns=reg.example", *headers)
            assert got.status in {401, 403}
        got = await played.node.get(manifest(name=PUBLIC), *headers)
        assert (got.status, got.body) == (200, played.public.manifest)


def assert_names_only(got: Got, *others: str) -> None:
    """The error names what this client has requested, and nothing of another one's request."""
    text = got.reason + got.body.decode()
    assert got.status >= 400
    for other in others:
        assert other not in text, text


@pytest.mark.parametrize("rules", [BEARER, BASIC], ids=["bearer", "basic"])
async def test_a_password_that_is_not_tried_again_is_told_of_in_words_of_its_own(tmp_path: Path, rules: Rules) -> None:
    async with scene(tmp_path / "cache", replace(rules, anonymous=False)) as played:
        for number in range(TRIES):
            got = await played.node.get(manifest(f"secret{number}", "library/hidden"), login(WRONG))
            assert_names_only(got, "team/app")
        got = await played.node.get(manifest("1", "library/app"), login(WRONG))
        assert "repository:team/app:pull as owner" in got.error["message"]
        assert_names_only(got, "hidden", "secret")


BY_STAR = {
    "one": ("/v2/team/app/manifests/absent?ns=one.example", "one.example", "other.example"),
    "other": ("/v2/team/app/manifests/absent?ns=other.example", "other.example", "one.example"),
}
BY_RULE = {
    "one": ("/v2/library/app/manifests/absent?ns=reg.example", "library/app", '"reg.example/team/app'),
    "other": ("/v2/team/app/manifests/absent?ns=reg.example", "team/app", "library/app"),
}
"""Two names of one repository upstream: the target of a request, what its error names, and what it does not."""

FAULTS: Mapping[str, Change] = {
    "absent": Reply(404),
    "denied": Reply(403),
    "limited": Reply(429),
    "broken": Reply(500),
    "page": Reply(200, body=b"<html>log in</html>", content_type="text/html"),
}


@asynccontextmanager
async def two_names(directory: Path, clients: Mapping[str, Any]) -> AsyncIterator[tuple[ScriptedRegistry, NodeClient]]:
    """A proxy that knows one repository by several names."""
    image: Image = make_image("team/app", "1")
    async with ScriptedRegistry([image], Rules(dialect="none")) as registry:
        entry = {"endpoints": [registry.url], "rewrites": list(REWRITES)}
        listeners = [{"address": "127.0.0.1:0", "clients": clients}]
        registries = {"*": entry, "reg.example": entry}
        async with cached([registry.url], directory, registries=registries, listeners=listeners) as node:
            yield registry, node


@pytest.mark.parametrize("auth", ["none", "upstream"])
@pytest.mark.parametrize("names", [BY_STAR, BY_RULE], ids=["registries", "repositories"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_that_clients_share_names_what_each_of_them_asked_for(
    tmp_path: Path, auth: str, names: Mapping[str, tuple[str, str, str]], fault: str
) -> None:
    clients = {"auth": auth, **(ANONYMOUS if auth == "upstream" else {})}
    async with two_names(tmp_path / "cache", clients) as (registry, node):
        until, reached = asyncio.Event(), asyncio.Event()
        registry.script(on(), Stall(BEFORE_HEADERS, until, reached), FAULTS[fault])
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(node.get(names["one"][0]))
            await reached.wait()
            joined = tasks.create_task(node.get(names["other"][0]))
            await asyncio.sleep(0)
            until.set()
        later = [await node.get(names[name][0]) for name in ("one", "other")]
        for got, name in ((first.result(), "one"), (joined.result(), "other"), *zip(later, names, strict=True)):
            _, own, others = names[name]
            assert own in got.error["detail"]["asked"]
            assert_names_only(got, others)
