import pytest
from click.testing import CliRunner

from proxy.cli.main import main
from proxy.demo import story
from proxy.demo.story import CASES, pull_directly, pull_through_proxy, stage


def test_demo_shows_both_and_ends_well() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    assert "failed to fetch oauth token" in result.output
    assert "identical to the registry's" in result.output
    assert "The node fails, the proxy's pull is byte-exact." in result.output


def test_demo_fails_when_a_byte_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "_kept", lambda image: {image.digest: image.manifest})
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "The demo failed." in result.output


async def test_node_fails_directly_and_pulls_through_the_proxy_with_one_scope() -> None:
    async with stage() as here:
        for case in CASES:
            direct = await pull_directly(here, case)
            assert not direct.exact
            assert {asked.scopes for asked in direct.token_requests} == {
                tuple(sorted((f"repository:{case.repository}:pull", f"repository:{case.rewritten}:pull")))
            }
            assert {asked.status for asked in direct.token_requests} == {404}
            proxied = await pull_through_proxy(here, case)
            assert proxied.exact
            assert [(asked.scopes, asked.status) for asked in proxied.token_requests] == [
                ((f"repository:{case.rewritten}:pull",), 200)
            ]
