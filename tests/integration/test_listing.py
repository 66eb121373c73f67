"""Tag lists and referrers, under the names and paging that the node used."""

import json
import re
from collections.abc import AsyncIterator

import pytest

from proxy.testbed.images import OCI_INDEX, Image, make_artifact, make_image
from proxy.testbed.tokens import Rules
from tests.fakes.changes import Reply, SetHeader
from tests.fakes.client import Got, NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

TAGS = [f"v{number}" for number in range(1, 8)]
LIST = f"/v2/{NAME}/tags/list"
SBOM = "application/vnd.example.sbom"


@pytest.fixture
async def registry() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry([make_image(UPSTREAM, tag) for tag in TAGS]) as server:
        yield server


@pytest.fixture
async def node(registry: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    async with started(settings([registry.url])) as proxy:
        yield proxy.node


def tags(got: Got) -> list[str]:
    document = json.loads(got.body)
    assert document["name"] == NAME
    found: list[str] = document["tags"]
    return found


def next_target(got: Got) -> str | None:
    link = got.header("Link")
    if link is None:
        return None
    match = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert match, link
    return match[1]


async def test_all_tags(node: NodeClient) -> None:
    got = await node.get(f"{LIST}?ns={REG}")
    assert (got.status, got.header("Content-Type"), tags(got)) == (200, "application/json", TAGS)
    assert next_target(got) is None
    head = await node.head(f"{LIST}?ns={REG}")
    assert (head.header("Content-Length"), head.body) == (str(got.size), b"")


@pytest.mark.parametrize("ignored", [False, True], ids=["honoured", "ignored"])
@pytest.mark.parametrize("how", ["ns", "path"])
async def test_pages_lead_to_all_tags(node: NodeClient, registry: ScriptedRegistry, how: str, ignored: bool) -> None:
    if ignored:  # as distribution 2.8 does
        document = {"name": UPSTREAM, "tags": TAGS}
        registry.script(on(kind="tags"), Reply(200, document=document))
    target: str | None = f"{LIST}?n=3&ns={REG}" if how == "ns" else f"/v2/{REG}/{NAME}/tags/list?n=3"
    pages: list[list[str]] = []
    while target is not None:
        assert ("ns=" in target) == (how == "ns")
        assert target.startswith(LIST if how == "ns" else f"/v2/{REG}/{NAME}/tags/list")
        assert UPSTREAM not in target
        got = await node.get(target)
        document = json.loads(got.body)
        assert document["name"] == (NAME if how == "ns" else f"{REG}/{NAME}")
        pages.append(document["tags"])
        target = next_target(got)
    assert pages == [TAGS[:3], TAGS[3:6], TAGS[6:]]


async def test_n_of_zero_and_a_last_that_is_no_tag(node: NodeClient) -> None:
    assert tags(await node.get(f"{LIST}?n=0&ns={REG}")) == []
    assert tags(await node.get(f"{LIST}?last=v5&ns={REG}")) == ["v6", "v7"]
    assert tags(await node.get(f"{LIST}?last=zzz&ns={REG}")) == []


async def test_where_a_link_of_the_upstream_points_is_never_displayed(
    node: NodeClient, registry: ScriptedRegistry
) -> None:
    link = '<https://evil.example/v2/other/tags/list?last=v2&n=2&ns=evil>; rel="next"'
    registry.script(on(kind="tags"), Reply(200, document={"tags": TAGS[:2]}, headers={"Link": link}))
    got = await node.get(f"{LIST}?ns={REG}")
    assert tags(got) == TAGS[:2]
    assert next_target(got) == f"{LIST}?last=v2&n=2&ns={REG}"


@pytest.mark.parametrize("query", ["next_page=opaque", "n=3&token=x", "last=v1&last=v3", "n=many", ""])
async def test_a_page_that_the_upstream_names_in_its_own_way_is_named_by_its_last_tag(
    node: NodeClient, registry: ScriptedRegistry, query: str
) -> None:
    """Only what the specification knows goes upstream, so a node cannot come back with anything else."""
    link = f'</v2/{UPSTREAM}/tags/list?{query}>; rel="next"'
    registry.script(on(kind="tags").nth(2), Reply(200, document={"tags": TAGS[:3]}, headers={"Link": link}))
    got = await node.get(f"{LIST}?ns={REG}")
    assert next_target(got) == f"{LIST}?last=v3&ns={REG}"
    assert tags(await node.get(str(next_target(got)))) == TAGS[3:]


async def test_tags_null_is_an_empty_list(node: NodeClient, registry: ScriptedRegistry) -> None:
    registry.script(on(kind="tags"), Reply(200, document={"name": UPSTREAM, "tags": None}))
    assert tags(await node.get(f"{LIST}?ns={REG}")) == []


@pytest.mark.parametrize("document", [[], {"tags": [1]}, {"tags": "v1"}, "text"])
async def test_a_broken_tag_list_is_502(node: NodeClient, registry: ScriptedRegistry, document: object) -> None:
    registry.script(on(kind="tags"), Reply(200, document=document))
    got = await node.get(f"{LIST}?ns={REG}")
    assert got.status == 502


async def test_tags_of_an_unknown_repository_are_404(registry: ScriptedRegistry) -> None:
    registry.library.repository("team/empty")
    del registry.library.repositories["team/empty"]
    async with started(settings([registry.url])) as proxy:
        registry.script(on(kind="tags"), Reply(404))
        got = await proxy.node.get(f"{LIST}?ns={REG}")
    assert (got.status, got.code) == (404, "NAME_UNKNOWN")


async def test_the_scope_of_a_tag_list_is_the_one_pull(node: NodeClient, registry: ScriptedRegistry) -> None:
    await node.get(f"{LIST}?ns={REG}")
    assert registry.record.scopes == {f"repository:{UPSTREAM}:pull"}


@pytest.fixture
def artifact(registry: ScriptedRegistry) -> Image:
    """An artifact that refers to the first image."""
    made = make_artifact(make_image(UPSTREAM, TAGS[0]), SBOM)
    registry.add(made)
    return made


def referrers(digest: str, query: str = "") -> str:
    return f"/v2/{NAME}/referrers/{digest}?{query}ns={REG}"


@pytest.mark.parametrize(("query", "filtered"), [("", None), (f"artifactType={SBOM.replace('/', '%2F')}&", SBOM)])
async def test_referrers(
    node: NodeClient, registry: ScriptedRegistry, artifact: Image, query: str, filtered: str | None
) -> None:
    subject = make_image(UPSTREAM, TAGS[0]).digest
    got = await node.get(referrers(subject, query))
    assert (got.status, got.header("Content-Type")) == (200, OCI_INDEX)
    assert [item["digest"] for item in json.loads(got.body)["manifests"]] == [artifact.digest]
    assert got.header("OCI-Filters-Applied") == ("artifactType" if filtered else None)
    assert registry.record.of("referrers")[-1].query == ((("artifactType", SBOM),) if filtered else ())


async def test_the_filter_header_is_not_made_up(node: NodeClient, registry: ScriptedRegistry, artifact: Image) -> None:
    registry.script(on(kind="referrers"), SetHeader("OCI-Filters-Applied", ""))
    subject = make_image(UPSTREAM, TAGS[0]).digest
    assert artifact.digest != subject
    assert (await node.get(referrers(subject, "artifactType=x&"))).header("OCI-Filters-Applied") is None


@pytest.mark.parametrize("status", [404, 400, 405, 406, 501])
async def test_an_upstream_without_referrers_is_404_and_the_fallback_tag_pulls(status: int) -> None:
    subject = make_image(UPSTREAM, "1")
    fallback = make_image(UPSTREAM, subject.digest.replace(":", "-"))
    async with (
        ScriptedRegistry([subject, fallback], Rules(referrers=False)) as registry,
        started(settings([registry.url])) as proxy,
    ):
        if status != 404:
            registry.script(on(kind="referrers").where(lambda call: bool(call.header("Authorization"))), Reply(status))
        assert (await proxy.node.get(referrers(subject.digest))).status == 404
        got = await proxy.node.get(manifest(fallback.tag))
    assert got.body == fallback.manifest
