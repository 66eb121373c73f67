import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import main

CONFIG = Path(__file__).resolve().parents[3] / "config"


def explained(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(main, ["explain", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.output)
    return found


@pytest.mark.parametrize(
    ("image", "request_line", "scope", "rule_line"),
    [
        (
            "cp.icr.io/cp/se-data-center-edge/app:1.2",
            "GET https://docker-na-public.artifactory.example.com/v2/se-next-gen-docker-local/app/manifests/1.2",
            "repository:se-next-gen-docker-local/app:pull",
            "artifactory.yaml:12:9",
        ),
        (
            "icr.io/cpopen/app:1.2",
            "GET https://docker-na-public.artifactory.example.com/v2/se-next-gen-docker-local/app/manifests/1.2",
            "repository:se-next-gen-docker-local/app:pull",
            "artifactory.yaml:8:9",
        ),
    ],
)
def test_tells_the_request_the_scope_and_the_rule_with_its_place(
    image: str, request_line: str, scope: str, rule_line: str
) -> None:
    endpoint = explained(image, "--config", str(CONFIG / "artifactory.yaml"))["endpoints"][0]  # type: ignore[index]
    assert endpoint["request"] == request_line
    assert endpoint["scope"] == scope
    assert rule_line in endpoint["rule"]
    original = image.partition("/")[2].rpartition(":")[0]
    assert endpoint["unpatched_rewriting"] == sorted([f"repository:{original}:pull", scope])
    assert endpoint["credential"].startswith("robot")


def test_text_shows_what_an_unpatched_node_would_ask() -> None:
    arguments = ["explain", "docker.io/library/alpine", "--config", str(CONFIG / "huawei-swr.yaml")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "requested scope           repository:hmirror/library/alpine:pull" in result.output
    assert "repository:hmirror/library/alpine:pull  repository:library/alpine:pull" in result.output


def test_registry_that_is_not_configured_is_refused_as_the_pull_would_be() -> None:
    result = CliRunner().invoke(main, ["explain", "quay.io/a/b:1", "--config", str(CONFIG / "artifactory.yaml")])
    assert result.exit_code == 1
    assert "DENIED: registry quay.io " in result.output


@pytest.mark.parametrize("image", ["UPPER/case", "a//b", "x:y:z/../..", "", "icr.io/a@sha256:12"])
def test_name_that_is_none_is_refused(image: str) -> None:
    result = CliRunner().invoke(main, ["explain", image, "--config", str(CONFIG / "artifactory.yaml")])
    assert result.exit_code == 1
    assert "_INVALID" in result.output


def test_k3s_file_is_explained_with_its_own_lines() -> None:
    endpoint = explained("icr.io/cpopen/app:1", "--registries", str(CONFIG / "registries.yaml"))["endpoints"][0]  # type: ignore[index]
    assert "registries.yaml:" in endpoint["rule"]
    assert endpoint["request"].endswith("/v2/se-next-gen-docker-local/app/manifests/1?ns=icr.io")


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "c.yaml"
    file.write_text(
        "version: 1\nregistries: {r.example: {}}\naccess:\n  - {action: deny, repositories: secret}\n"
        "  - {action: allow, clients: 'team-*'}\n"
    )
    return str(file)


def test_a_client_that_may_pull_sees_the_rule_that_allows_it(rules: str) -> None:
    arguments = ["explain", "r.example/a", "--client", "team-a", "--config", rules]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    line = f"  team-a may pull: allow registries: *, repositories: **, clients: team-* ({rules}:5:5)\n"
    assert line in result.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("r.example/secret", "--client", "team-a"), "team-a may not pull: deny registries: *, repositories: secret"),
        (("r.example/a",), "anonymous may not pull: no rule allows it ("),
    ],
)
def test_a_client_that_may_not_pull_sees_why_and_the_route(rules: str, arguments: tuple[str, ...], line: str) -> None:
    result = CliRunner().invoke(main, ["explain", *arguments, "--config", rules])
    assert result.exit_code == 1
    assert line in result.output
    assert "requested scope" in result.output


def test_the_decision_stands_in_the_json_too(rules: str) -> None:
    result = CliRunner().invoke(main, ["explain", "r.example/secret", "--json", "--config", rules])
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert found["client"] == "anonymous"
    assert found["access"] == {
        "allowed": False,
        "place": f"{rules}:4:5",
        "text": "deny registries: *, repositories: secret, clients: *",
    }
    assert explained("icr.io/a", "--config", str(CONFIG / "artifactory.yaml"))["access"] == {
        "allowed": True,
        "place": "",
        "text": "no access rules",
    }
