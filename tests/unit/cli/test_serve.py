import os
import socket
import subprocess
import sys
from pathlib import Path

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
    assert "host:port" in result.output


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


def without_extensions(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`serve` in a process in which aiohttp has its parser in Python only."""
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(CONFIG / "default.yaml"), *arguments]
    environment = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_lenient_parser_is_refused() -> None:
    result = without_extensions()
    assert result.returncode == 1
    assert "scope-proxy: aiohttp runs on its HTTP parser in Python" in result.stderr
    assert "install aiohttp from a wheel" in result.stderr
    assert "--allow-python-parser" in result.stderr


def test_the_lenient_parser_can_be_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = without_extensions("--listen", address, "--allow-python-parser", "--admin", "127.0.0.1:0")
    assert result.returncode == 1
    assert f"scope-proxy: cannot listen on {address}: " in result.stderr
