import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main
from tests.real.processes import free_port

STATUSES = {"/healthz": 200, "/readyz": 503}
"""A proxy that is being stopped: alive, and not ready."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(STATUSES[self.path])
        self.end_headers()
        self.wfile.write(b"not serving\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Where a proxy that is being stopped answers."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def healthcheck(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["healthcheck", *arguments])


def configured(folder: Path, admin: str) -> tuple[str, str]:
    file = folder / "config.yaml"
    file.write_text(f"version: 1\nadmin: {admin}\n")
    return "--config", str(file)


@pytest.mark.parametrize("host", ["127.0.0.1", "", "0.0.0.0"])
def test_alive_is_status_0_by_the_configured_address(tmp_path: Path, port: int, host: str) -> None:
    result = healthcheck(*configured(tmp_path, f"{{address: '{host}:{port}'}}"), "--live")
    assert (result.exit_code, result.output) == (0, "")


def test_not_ready_is_status_1_with_what_was_said(tmp_path: Path, port: int) -> None:
    result = healthcheck(*configured(tmp_path, f"{{address: '127.0.0.1:{port}'}}"))
    assert result.exit_code == 1
    assert f"/readyz of 127.0.0.1:{port}: 503 not serving" in result.output


def test_nobody_there_is_status_1() -> None:
    result = healthcheck("--admin", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "no answer" in result.output


def test_the_address_of_the_command_line_needs_no_configuration(port: int) -> None:
    assert healthcheck("--admin", f"127.0.0.1:{port}", "--live").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--admin", "nowhere"), "host:port"), (("--config", "missing.yaml"), "missing.yaml")],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], said: str) -> None:
    result = healthcheck(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_proxy_without_admin_address_is_status_2(tmp_path: Path) -> None:
    result = healthcheck(*configured(tmp_path, "null"))
    assert result.exit_code == 2
    assert "admin is null" in result.output
