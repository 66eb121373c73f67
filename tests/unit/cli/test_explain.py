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
    assert "scope asked               repository:hmirror/library/alpine:pull" in result.output
    assert "repository:hmirror/library/alpine:pull  repository:library/alpine:pull" in result.output


def test_registry_that_is_not_configured_is_refused_as_the_pull_would_be() -> None:
    result = CliRunner().invoke(main, ["explain", "quay.io/a/b:1", "--config", str(CONFIG / "artifactory.yaml")])
    assert result.exit_code == 1
    assert "DENIED: registry quay.io is not configured: add it under registries" in result.output


@pytest.mark.parametrize("image", ["UPPER/case", "a//b", "x:y:z/../..", "", "icr.io/a@sha256:12"])
def test_name_that_is_none_is_refused(image: str) -> None:
    result = CliRunner().invoke(main, ["explain", image, "--config", str(CONFIG / "artifactory.yaml")])
    assert result.exit_code == 1
    assert "_INVALID" in result.output


def test_k3s_file_is_explained_with_its_own_lines() -> None:
    endpoint = explained("icr.io/cpopen/app:1", "--registries", str(CONFIG / "registries.yaml"))["endpoints"][0]  # type: ignore[index]
    assert "registries.yaml:" in endpoint["rule"]
    assert endpoint["request"].endswith("/v2/se-next-gen-docker-local/app/manifests/1?ns=icr.io")
