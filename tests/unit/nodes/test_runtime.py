from pathlib import Path

import pytest

from proxy.nodes.runtime import NodeError, advice, detect

INLINE = """version = 2
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
  endpoint = ["https://mirror.example.com"]
"""
K3S = "var/lib/rancher/k3s/agent/etc/containerd"


@pytest.mark.parametrize(
    ("directories", "name"),
    [
        ([K3S], "k3s"),
        (["var/lib/rancher/rke2/agent/etc/containerd"], "RKE2"),
        (["etc/containerd"], "containerd"),
        (["etc/containerd", K3S], "k3s"),
    ],
)
def test_the_runtime_of_a_node_is_found(tmp_path: Path, directories: list[str], name: str) -> None:
    for directory in directories:
        (tmp_path / directory).mkdir(parents=True)
    runtime = detect(tmp_path)
    assert runtime.name == name
    assert runtime.tree == tmp_path / directories[-1] / "certs.d"


@pytest.mark.parametrize(
    ("directories", "message"),
    [([], "no k3s, RKE2 or containerd"), ([K3S, K3S.replace("k3s", "rke2")], "both k3s and RKE2")],
)
def test_a_node_without_one_runtime_must_name_its_tree(tmp_path: Path, directories: list[str], message: str) -> None:
    for directory in directories:
        (tmp_path / directory).mkdir(parents=True)
    with pytest.raises(NodeError, match=message) as raised:
        detect(tmp_path)
    assert "--certs-dir" in str(raised.value)


def tree(tmp_path: Path, directory: str, config: str) -> Path:
    (tmp_path / directory).mkdir(parents=True)
    (tmp_path / directory / "config.toml").write_text(config)
    return tmp_path / directory / "certs.d"


@pytest.mark.parametrize("config", [INLINE, "version = 2\n"], ids=["inline", "no-config-path"])
def test_old_k3s_reads_no_tree_and_gets_a_registries_yaml(tmp_path: Path, config: str) -> None:
    with pytest.raises(NodeError, match="--print-registries-yaml"):
        advice(tree(tmp_path, K3S, config))


def test_containerd_with_inline_mirrors_gets_the_advice_to_choose(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="config_path"):
        advice(tree(tmp_path, "etc/containerd", INLINE))


@pytest.mark.parametrize(
    ("config", "section"),
    [("version = 2\n", "io.containerd.grpc.v1.cri"), ("version = 3\n", "io.containerd.cri.v1.images")],
)
def test_containerd_without_a_config_path_gets_the_line(tmp_path: Path, config: str, section: str) -> None:
    message = advice(tree(tmp_path, "etc/containerd", config))
    assert message is not None
    assert f'certs.d" in [plugins."{section}".registry]' in message


@pytest.mark.parametrize(
    "config",
    [
        "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n",
        '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/a:/b"\n',
    ],
)
def test_a_runtime_that_reads_the_tree_needs_no_advice(tmp_path: Path, config: str) -> None:
    assert advice(tree(tmp_path, K3S, config)) is None


def test_a_configuration_that_is_elsewhere_or_broken_stops_nobody(tmp_path: Path) -> None:
    assert advice(tmp_path / "certs.d") is None
    message = advice(tree(tmp_path, "etc/containerd", "a = = 1"))
    assert message is not None
    assert "not valid TOML" in message
