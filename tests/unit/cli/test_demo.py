import io
from dataclasses import replace

import pytest
from click.testing import CliRunner
from rich.console import Console

from proxy.cli.demo import EXIT_NOT_EXACT, run_demo
from proxy.cli.main import main
from proxy.demo.story import CASES, is_exact, pull_directly, pull_through_proxy, stage
from proxy.testbed.images import Image, demo_images
from proxy.testbed.node import pull
from proxy.testbed.node_values import PullTarget


def test_demo_shows_both_and_ends_well() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    assert "failed to fetch oauth token" in result.output
    assert "identical to the registry's" in result.output
    assert "The node fails, the proxy's pull is byte-exact." in result.output


def with_a_wrong_byte(image: Image) -> Image:
    """The same image, of which one blob has another last byte than its digest says."""
    if image.platforms:
        return replace(image, platforms=tuple(with_a_wrong_byte(platform) for platform in image.platforms))
    digest, content = list(image.blobs.items())[-1]
    return replace(image, blobs={**image.blobs, digest: flipped(content)})


def flipped(content: bytes) -> bytes:
    """The same bytes but for the last one."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("position", range(len(demo_images())))
async def test_demo_fails_when_the_registry_sends_a_wrong_byte(position: int) -> None:
    images = [with_a_wrong_byte(image) if at == position else image for at, image in enumerate(demo_images())]
    assert await run_demo(Console(file=io.StringIO()), keep=False, port=0, images=images) == EXIT_NOT_EXACT


async def test_a_pull_with_a_wrong_byte_is_not_exact() -> None:
    async with stage() as here:
        case = CASES[0]
        pulled = await pull(PullTarget(here.proxy_url, case.registry, case.repository, case.tag), None)
    assert is_exact(case, pulled)
    for digest, content in pulled.manifests.items():
        assert not is_exact(case, replace(pulled, manifests={**pulled.manifests, digest: flipped(content)}))
    for digest, content in pulled.blobs.items():
        assert not is_exact(case, replace(pulled, blobs={**pulled.blobs, digest: flipped(content)}))


async def test_node_fails_directly_and_pulls_through_the_proxy_with_one_scope() -> None:
    async with stage() as here:
        for case in CASES:
            direct = await pull_directly(here, case)
            assert not direct.exact
            assert {request.scopes for request in direct.token_requests} == {
                tuple(sorted((f"repository:{case.repository}:pull", f"repository:{case.rewritten}:pull")))
            }
            assert {request.status for request in direct.token_requests} == {404}
            proxied = await pull_through_proxy(here, case)
            assert proxied.exact
            assert [(request.scopes, request.status) for request in proxied.token_requests] == [
                ((f"repository:{case.rewritten}:pull",), 200)
            ]
