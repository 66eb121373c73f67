import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from proxy.cli.main import main

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
def refusing() -> Iterator[int]:
    """A loopback port that refuses every connection: it is bound, so nobody else can listen on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server with this handler."""
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port() -> Iterator[int]:
    """Where a proxy that is being stopped answers."""
    with answering(_Handler) as port:
        yield port


def healthcheck(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["healthcheck", *arguments])


def configured(directory: Path, admin: str) -> tuple[str, str]:
    file = directory / "config.yaml"
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


def test_nobody_there_is_status_1(refusing: int) -> None:
    result = healthcheck("--admin", f"127.0.0.1:{refusing}")
    assert result.exit_code == 1
    assert "no response" in result.output


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


class _Listener(http.server.BaseHTTPRequestHandler):
    """What answers nodes: `/v2/` with a status, and a name in the Server header."""

    status, name = 200, "scope-proxy"

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/v2/" else 404)
        self.end_headers()

    def version_string(self) -> str:
        return self.name

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(status: int, name: str, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of something that answers nodes so."""
    with answering(type("Handler", (_Listener,), {"status": status, "name": name}), tls) as port:
        yield port


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [(200, "scope-proxy", 0), (401, "scope-proxy", 0), (503, "scope-proxy", 1), (200, "nginx", 1)],
)
def test_a_listener_gets_the_request_of_a_node(status: int, name: str, expected: int) -> None:
    with listening(status, name) as port:
        result = healthcheck("--proxy", f"http://127.0.0.1:{port}")
    assert result.exit_code == expected
    message = f"scope-proxy: http://127.0.0.1:{port}/v2/: another server than scope-proxy responds\n"
    assert result.output == (message if expected else "")


def test_the_certificate_of_a_listener_may_be_anybodys() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    with listening(200, "scope-proxy", context) as port:
        assert healthcheck("--proxy", f"https://127.0.0.1:{port}").exit_code == 0


def test_no_listener_is_status_1(refusing: int) -> None:
    result = healthcheck("--proxy", f"http://127.0.0.1:{refusing}")
    assert (result.exit_code, "no response" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--proxy", "127.0.0.1:5000"), "--proxy"),
        (("--proxy", "http://127.0.0.1:5000/v2/"), "write http://127.0.0.1:5000"),
        (("--proxy", "http://127.0.0.1:5000", "--live"), "leave --live out"),
        (("--proxy", "http://127.0.0.1:5000", "--admin", "127.0.0.1:5007"), "leave --admin out"),
    ],
)
def test_a_listener_is_addressed_by_its_url_alone(arguments: tuple[str, ...], said: str) -> None:
    result = healthcheck(*arguments)
    assert (result.exit_code, said in result.output) == (2, True), result.output
