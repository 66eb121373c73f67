import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from proxy.nodes.managed_files import read_ca
from proxy.nodes.probe import ProbeResult, probe, usable, wait
from tests.fakes.certificates import GO_ACCEPTS, GO_REFUSES, GO_REFUSES_NAMES, Subject
from tests.unit.nodes.support import CA

NOTHING = "http://127.0.0.1:1"
POLL = 0.01
"""Seconds between two looks of a server at whether it is to end."""


@contextmanager
def serving(product: str, status: int, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Server", product)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(POLL,))
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def ours() -> Iterator[str]:
    with serving("scope-proxy", 200) as url:
        yield url


@pytest.fixture
def ours_with_clients() -> Iterator[str]:
    with serving("scope-proxy", 401) as url:
        yield url


@pytest.fixture
def other() -> Iterator[str]:
    with serving("nginx", 200) as url:
        yield url


def test_only_a_scope_proxy_is_taken_for_one(ours: str, ours_with_clients: str, other: str) -> None:
    assert [probe(url) for url in (ours, ours_with_clients)] == [ProbeResult.OURS, ProbeResult.OURS]
    assert probe(other) is ProbeResult.OTHER
    assert probe(NOTHING) is ProbeResult.NOTHING
    assert probe(ours.replace("http:", "https:")) is ProbeResult.NOTHING


@pytest.mark.parametrize("certificates", GO_ACCEPTS)
def test_a_certificate_that_the_node_will_accept_is_accepted(tmp_path: Path, certificates: str) -> None:
    chain = GO_ACCEPTS[certificates](Subject("127.0.0.1"))
    with serving("scope-proxy", 200, chain.server(tmp_path)) as url:
        assert probe(url, chain.trusted_pem) is ProbeResult.OURS


@pytest.mark.parametrize("certificates", GO_REFUSES | GO_REFUSES_NAMES)
def test_a_certificate_that_the_node_will_refuse_is_not_ours(tmp_path: Path, certificates: str) -> None:
    chain = (GO_REFUSES | GO_REFUSES_NAMES)[certificates](Subject("127.0.0.1"))
    with serving("scope-proxy", 200, chain.server(tmp_path)) as url:
        assert probe(url, chain.trusted_pem) is ProbeResult.OTHER


def test_a_node_is_pointed_at_what_answers_and_never_at_somebody_else() -> None:
    assert usable([ProbeResult.OURS, ProbeResult.NOTHING])
    assert not usable([ProbeResult.NOTHING])
    assert not usable([ProbeResult.OURS, ProbeResult.OTHER])


def test_waiting_ends_with_the_first_answer_or_with_patience(ours: str) -> None:
    assert wait([ours, NOTHING], None, 60, threading.Event()) == {ours: ProbeResult.OURS, NOTHING: ProbeResult.NOTHING}
    assert wait([NOTHING], None, 0, threading.Event()) == {NOTHING: ProbeResult.NOTHING}
    stopping = threading.Event()
    stopping.set()
    assert wait([NOTHING], None, 3600, stopping) == {NOTHING: ProbeResult.NOTHING}


def test_an_authority_is_certificates_and_no_key(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "ca.crt").write_text(CA)
    (tmp_path / "ca.crt").symlink_to("..data/ca.crt")  # as Kubernetes mounts a Secret
    assert read_ca(tmp_path / "ca.crt") == CA
    (tmp_path / "key").write_text(f"{CA}-----BEGIN PRIVATE KEY-----\n")
    for name, message in (("key", "private key"), ("..data", "no PEM certificate"), ("no", "no PEM certificate")):
        with pytest.raises(ValueError, match=message):
            read_ca(tmp_path / name)
