from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from proxy.cli.main import main
from proxy.nodes.node_config import Mark

FILE = """mirrors:
  cp.icr.io:
    endpoint: ["https://m.example"]
    rewrite: {"^cp/(.+)$": "local/$1"}
configs:
  m.example:
    auth: {username: robot, password: hunter2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registries.yaml"
    path.write_text(FILE)
    return path


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def test_parts_are_printed_as_one_stream_of_yaml(file: Path) -> None:
    result = convert(file)
    assert result.exit_code == 0
    config, secret, node = YAML(typ="safe", pure=True).load_all(result.stdout)
    assert config["version"] == 1
    assert secret["kind"] == "Secret"
    assert list(node["mirrors"]) == ["cp.icr.io", "m.example"]
    assert "hunter2" not in result.output
    assert f"{file}:2:3: changed: 1 rule of cp.icr.io moved" in result.stderr
    assert result.stderr.endswith("registries.yaml: converted, 0 open question(s)\n")


def test_values_take_the_place_of_the_configuration(file: Path) -> None:
    values, _, _ = YAML(typ="safe", pure=True).load_all(convert(file, "--values").stdout)
    assert set(values) == {"config", "secrets"}


def test_files_are_written_and_never_over_others(file: Path, tmp_path: Path) -> None:
    out, tree = tmp_path / "out", tmp_path / "certs.d"
    assert convert(file, "--output", out, "--hosts-toml", tree).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "changes.txt",
        "config.yaml",
        "registries.yaml",
        "secrets.yaml",
    ]
    assert (out / "secrets.yaml").stat().st_mode & 0o777 == 0o600
    assert Mark.parse((tree / "cp.icr.io" / "hosts.toml").read_text()) == Mark("default", made_directory=True)
    assert convert(file, "--output", out).exit_code == 0  # the same again
    (out / "config.yaml").write_text("mine\n")
    result = convert(file, "--output", out)
    assert result.exit_code == 1
    assert f"{out / 'config.yaml'} exists with different content" in result.stderr
    assert (out / "config.yaml").read_text() == "mine\n"
    assert convert(file, "--output", out, "--force").exit_code == 0
    assert (out / "config.yaml").read_text().startswith("version: 1\n")


def test_the_difference_shows_no_secret(file: Path) -> None:
    result = convert(file, "--diff")
    assert result.exit_code == 0
    assert '-    endpoint: ["https://m.example"]\n' in result.stdout
    assert '+      - "http://127.0.0.1:5000"\n' in result.stdout
    assert "-    auth: {username: robot, password: <secret>}\n" in result.stdout
    assert "hunter2" not in result.output


def test_open_questions_are_status_1(file: Path) -> None:
    file.write_text(FILE.replace("  m.example:\n", "  cp.icr.io:\n"))
    result = convert(file)
    assert result.exit_code == 1
    assert "converted, 1 open question(s)" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [("mirrors: [a]\n", ":1:10: a map (key: value) is expected here"), ("a: b: c\n", ":1:5: ")],
)
def test_what_k3s_refuses_is_status_2(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    result = convert(file)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--proxy", "127.0.0.1:5000"], "write http://127.0.0.1:5000"),
        (["--proxy", "http://127.0.0.1:5000/v2"], "an origin is scheme, host and port only"),
        (["--realm", "m.example"], "write HOST=URL"),
        (["--realm", "m.example=auth"], "write https://auth"),
        (["--realm", "n.example=https://auth.example"], "--realm n.example: "),
    ],
)
def test_wrong_usage_is_status_2(file: Path, arguments: list[str], message: str) -> None:
    result = convert(file, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_directories_that_cannot_be_written_are_reported(file: Path) -> None:
    result = convert(file, "--output", file / "below")
    assert result.exit_code == 2
    assert "Not a directory" in result.stderr
