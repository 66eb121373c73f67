from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from proxy.cli.main import main
from tests.unit.nodes.support import CA, CONFIG, snapshot


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path / "certs.d"


def node(command: str, tree: Path, *arguments: object) -> Result:
    config = [] if command == "remove" else ["--config", str(tree.parent / "config.yaml")]
    return CliRunner().invoke(main, ["node", command, "--certs-dir", str(tree), *config, *map(str, arguments)])


def test_apply_status_and_remove(tree: Path) -> None:
    before = snapshot(tree.parent)
    assert node("status", tree).exit_code == 1
    assert "missing     docker.io\n" in node("status", tree).stdout
    applied = node("apply", tree)
    assert applied.exit_code == 0
    assert "written     icr.io (was missing)\n" in applied.stdout
    status = node("status", tree)
    assert status.exit_code == 0
    assert status.stdout.count("in sync") == 3
    removed = node("remove", tree)
    assert removed.exit_code == 0
    assert f"{tree}: 3 removed\n" in removed.stdout
    assert snapshot(tree.parent) == before


def test_what_is_not_ours_is_status_1(tree: Path) -> None:
    (tree / "docker.io").mkdir(parents=True)
    (tree / "docker.io" / "hosts.toml").write_text('server = "https://x.example"\n')
    for command in ("apply", "status"):
        result = node(command, tree)
        assert result.exit_code == 1
        assert "unmanaged   docker.io: hosts.toml is not managed" in result.stdout


def test_nothing_is_written_before_the_proxy_answers(tree: Path) -> None:
    result = node("apply", tree, "--proxy", "http://127.0.0.1:1", "--wait", "0.1")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1: nothing answers" in result.stderr
    assert not tree.exists()


def test_a_registries_yaml_is_printed_and_nothing_changed(tree: Path) -> None:
    result = node("apply", tree, "--print-registries-yaml", "--proxy", "https://p.example", "--ca-file", "/etc/ca.pem")
    assert result.exit_code == 0
    file = YAML(typ="safe", pure=True).load(result.stdout)
    assert list(file["mirrors"]) == ["docker.io", "icr.io", "registry.example.com:5000"]
    assert file["configs"] == {"p.example": {"tls": {"ca_file": "/etc/ca.pem"}}}
    assert not tree.exists()


def test_old_k3s_gets_advice_and_can_still_be_cleaned(tmp_path: Path) -> None:
    directory = tmp_path / "rancher" / "containerd"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(CONFIG)
    assert node("apply", directory / "certs.d").exit_code == 0
    (directory / "config.toml").write_text("version = 2\n")
    for command in ("apply", "status"):
        result = node(command, directory / "certs.d")
        assert result.exit_code == 2
        assert "--print-registries-yaml" in result.stderr
    assert node("remove", directory / "certs.d").exit_code == 0
    assert not (directory / "certs.d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instance", "a b"], "--instance"),
        (["--proxy", "127.0.0.1:5000"], "an origin needs its scheme"),
        (["--ca-file", "config.yaml"], "no PEM certificate"),
        (["--watch", "0"], "0.0 is not in the range"),
    ],
)
def test_wrong_usage_is_status_2(
    tree: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree.parent)
    result = node("apply", tree, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not tree.exists()


def test_a_tree_that_cannot_be_written_is_reported(tree: Path) -> None:
    config = ("--config", tree.parent / "config.yaml")
    missing = node("apply", tree.parent / "not" / "there", *config)
    assert missing.exit_code == 1
    assert "No such file or directory" in missing.stderr
    tree.write_text("a file")
    in_the_way = node("apply", tree)
    assert in_the_way.exit_code == 1
    assert "Not a directory" in in_the_way.stderr
    assert sorted(path.name for path in tree.parent.iterdir()) == ["certs.d", "config.yaml"]


def test_an_authority_goes_with_https_proxies(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CA)
    arguments = ("--proxy", "https://p.example", "--ca-file", tmp_path / "ca.pem")
    assert node("apply", tree, *arguments).exit_code == 0
    assert (tree / "docker.io" / "scope-proxy-ca.crt").read_text().endswith(CA)
    assert node("status", tree, *arguments).exit_code == 0
    assert node("status", tree).exit_code == 1
