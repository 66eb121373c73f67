"""A token is used for the registry, the repository and the credential that it was got for, and for no other."""

from collections.abc import AsyncIterator

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Account, Rules
from tests.fakes.canaries import OTHER_PASSWORD
from tests.fakes.changes import Challenge
from tests.fakes.matching import on
from tests.fakes.proxy import (
    LOGIN,
    OTHER_LOGIN,
    REG,
    REWRITES,
    UPSTREAM,
    authority,
    manifest,
    settings,
    started,
)
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

OTHER = "other.example"


@pytest.fixture
async def second(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """A registry with the same repository and service name, and another account."""
    async with ScriptedRegistry([image], Rules(accounts=(Account("other", OTHER_PASSWORD),))) as server:
        yield server


def both(first: ScriptedRegistry, second: ScriptedRegistry) -> dict[str, object]:
    """Two registries, each with its credential."""
    entries = {
        name: {"endpoints": [server.url], "rewrites": list(REWRITES)}
        for name, server in ((REG, first), (OTHER, second))
    }
    hosts = {authority(first.url): {"credentials": LOGIN}, authority(second.url): {"credentials": OTHER_LOGIN}}
    return settings([]) | {"registries": entries, "hosts": hosts}


async def test_two_registries_with_one_service_name_share_nothing(
    registry: ScriptedRegistry, second: ScriptedRegistry
) -> None:
    async with started(both(registry, second)) as proxy:
        for _ in range(2):
            assert (await proxy.node.get(manifest())).status == 200
            assert (await proxy.node.get(manifest(registry=OTHER))).status == 200
    assert [entry.credential for entry in registry.record.tokens] == ["basic robot"]
    assert [entry.credential for entry in second.record.tokens] == ["basic other"]
    for server in (registry, second):
        assert "bearer unknown" not in {entry.credential for entry in server.record.all()}


async def test_a_registry_that_names_anothers_token_server_gets_none_of_its_tokens(
    registry: ScriptedRegistry, second: ScriptedRegistry
) -> None:
    """Also not with a token that is in memory already for the same realm, service and scope."""
    line = f'Bearer realm="{registry.realm}",service="strict-registry",scope="repository:{UPSTREAM}:pull"'
    async with started(both(registry, second)) as proxy:
        assert (await proxy.node.get(manifest())).status == 200
        second.script(on(kind="manifest"), Challenge((line,)))
        got = await proxy.node.get(manifest(registry=OTHER))
    assert (got.status, got.code) == (403, "DENIED")
    assert {entry.credential for entry in second.record.all()} == {"anonymous"}
    assert len(registry.record.tokens) == 1


@pytest.mark.parametrize("name", ["library/two", "library/app/sub", "library/ap"])
async def test_each_repository_has_its_own(registry: ScriptedRegistry, name: str) -> None:
    registry.add(make_image(name.replace("library", "team"), "1"))
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        assert (await proxy.node.get(manifest())).status == 200
        assert (await proxy.node.get(manifest(name=name))).status == 200
    used = {entry.repository: entry.credential for entry in registry.record.of("manifest")}
    assert used == {UPSTREAM: "bearer 1", name.replace("library", "team"): "bearer 2"}


@pytest.mark.parametrize("order", [("private", "open"), ("open", "private")])
async def test_credentials_for_some_repositories_are_for_those_alone(
    registry: ScriptedRegistry, order: tuple[str, str]
) -> None:
    registry.add(make_image("team/open", "1"))
    login = [{**LOGIN, "repositories": "team/private/**"}]
    registry.add(make_image("team/private/x", "1"))
    names = {"private": "library/private/x", "open": "library/open"}
    async with started(settings([registry.url], login=login)) as proxy:
        found = {kind: (await proxy.node.get(manifest(name=names[kind]))).status for kind in order}
    assert found == {"private": 200, "open": 403}
    assert {entry.credential for entry in registry.record.tokens if "open" in str(entry.scopes)} == {"anonymous"}
