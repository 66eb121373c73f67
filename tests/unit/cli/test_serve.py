import socket
from pathlib import Path

import pytest
from aiohttp.http_parser import HttpRequestParserPy
from click.testing import CliRunner

from proxy.cli.main import main

CONFIG = Path(__file__).resolve().parents[3] / "config"


def test_address_that_is_taken_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["serve", "--config", str(CONFIG / "default.yaml"), "--listen", address]
        result = CliRunner().invoke(main, [*arguments, "--admin", "127.0.0.1:0"])
    assert result.exit_code == 1
    assert f"scope-proxy: cannot listen on {address}: " in result.output


def test_a_taken_address_of_metrics_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["serve", "--config", str(CONFIG / "default.yaml"), "--listen", "127.0.0.1:0"]
        result = CliRunner().invoke(main, [*arguments, "--admin", "127.0.0.1:0", "--metrics", address])
    assert result.exit_code == 1
    assert f"scope-proxy: cannot listen on {address}: " in result.output


def test_address_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(main, ["serve", "--config", str(CONFIG / "default.yaml"), "--listen", "5000"])
    assert result.exit_code == 2
    assert "an address to listen on is host:port" in result.output


def test_credentials_are_not_offered_to_a_network_from_the_command_line() -> None:
    arguments = ["serve", "--registries", str(CONFIG / "registries.yaml"), "--listen", "0.0.0.0:5000"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "0.0.0.0:5000 can be reached from other machines, and credentials are configured" in result.output


def test_broken_configuration_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("version: 2\n")
    result = CliRunner().invoke(main, ["serve", "--config", str(file)])
    assert result.exit_code == 2
    assert f"{file}:1:10: " in result.output


def test_the_lenient_parser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.serve.HttpRequestParser", HttpRequestParserPy)
    result = CliRunner().invoke(main, ["serve", "--config", str(CONFIG / "default.yaml")])
    assert result.exit_code == 1
    assert "scope-proxy: aiohttp runs on its HTTP parser in Python" in result.output
    assert "install aiohttp from a wheel" in result.output
    assert "--allow-python-parser" in result.output


def test_the_lenient_parser_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.serve.HttpRequestParser", HttpRequestParserPy)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["serve", "--config", str(CONFIG / "default.yaml"), "--listen", address, "--allow-python-parser"]
        result = CliRunner().invoke(main, [*arguments, "--admin", "127.0.0.1:0"])
    assert f"scope-proxy: cannot listen on {address}: " in result.output
