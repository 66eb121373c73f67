from pathlib import Path

import pytest

from proxy.config.load import Loaded, load_config
from proxy.k3s.registries_yaml import import_registries
from proxy.routing.table import RouteTable

EXAMPLES = Path(__file__).parents[3] / "config"
ARTIFACTORY = "https://docker-na-public.artifactory.example.com/v2/se-next-gen-docker-local"
SWR = "https://swr.cn-north-4.myhuaweicloud.com/v2/hmirror"

# file, registry and repository that a node asks for, URL and repository that the upstream sees
ROUTES = [
    ("default", "docker.io", "library/alpine", "https://registry-1.docker.io/v2/library/alpine", "library/alpine"),
    ("artifactory", "icr.io", "cpopen/app", f"{ARTIFACTORY}/app", "se-next-gen-docker-local/app"),
    ("artifactory", "cp.icr.io", "cp/se-data-center-edge/a", f"{ARTIFACTORY}/a", "se-next-gen-docker-local/a"),
    ("registries", "icr.io", "cpopen/app", f"{ARTIFACTORY}/app", "se-next-gen-docker-local/app"),
    ("huawei-swr", "docker.io", "library/alpine", f"{SWR}/library/alpine", "hmirror/library/alpine"),
    ("huawei-swr", "docker.io", "hmirror/library/alpine", f"{SWR}/library/alpine", "hmirror/library/alpine"),
    ("huawei-swr", "quay.io", "a/b", f"{SWR}/a/b", "hmirror/a/b"),
    ("harbor", "docker.io", "a/b", "https://harbor.example.com/v2/dockerhub-proxy/a/b", "dockerhub-proxy/a/b"),
    ("ghcr", "docker.io", "a/b", "https://ghcr.io/v2/example-org/dockerhub/a/b", "example-org/dockerhub/a/b"),
    ("ghcr", "ghcr.io", "example-org/app", "https://ghcr.io/v2/example-org/app", "example-org/app"),
    (
        "google-artifact-registry",
        "docker.io",
        "a/b",
        "https://europe-west1-docker.pkg.dev/v2/example-project/dockerhub/a/b",
        "example-project/dockerhub/a/b",
    ),
    (
        "gitlab",
        "docker.io",
        "a/b",
        "https://gitlab.example.com/v2/example-group/dependency_proxy/containers/a/b",
        "example-group/dependency_proxy/containers/a/b",
    ),
    ("nexus", "docker.io", "a/b", "https://nexus.example.com:8443/v2/a/b", "a/b"),
    ("docker-hub", "docker.io", "a/b", "https://registry-1.docker.io/v2/a/b", "a/b"),
]


def load(name: str) -> Loaded:
    path = EXAMPLES / f"{name}.yaml"
    return import_registries(path) if name == "registries" else load_config(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_every_example_loads_without_a_warning_and_has_a_route(name: str) -> None:
    loaded = load(name)
    assert [note for note in loaded.notes if note.severity == "warning"] == []
    assert any(row[0] == name for row in ROUTES)


@pytest.mark.parametrize(("name", "registry", "requested", "url", "repository"), ROUTES)
def test_examples_ask_upstream_for_the_right_repository(
    name: str, registry: str, requested: str, url: str, repository: str
) -> None:
    loaded = load(name)
    target = RouteTable(loaded.config, loaded.positions).resolve(requested, namespace=registry).targets[0]
    assert target.url("manifests/1") == f"{url}/manifests/1"
    assert target.repository == repository


def test_examples_hold_no_password_but_the_one_of_registries_yaml() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        for host in load(path.stem).config.hosts.values():
            for credential in host.credentials:
                assert path.stem == "registries" or (credential.password_file or "").startswith("/etc/scope-proxy/")
