"""Spans of the program, as a collector gets them over HTTPS."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.fakes.certificates import GO_ACCEPTS, GO_REFUSES, GO_REFUSES_NAMES, Chain, Subject
from tests.fakes.proxy import manifest
from tests.operate.program import Program

SPANS = "/v1/traces"
POLL = 0.01
"""Seconds between two looks of the collector at whether it is to end."""


@contextmanager
def collecting(chain: Chain, directory: Path) -> Iterator[tuple[str, list[str]]]:
    """A collector that presents a chain: its URL, and the paths of its requests so far."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(self.path)
            self.send_response_only(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = chain.server(directory).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(POLL,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}{SPANS}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def spans_of_a_pull(program: Program, chain: Chain, directory: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The requests that the collector gets until the program has ended, after one pull."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # the library prefers them to its own setting
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(chain.trust_file(directory)))
    with collecting(chain, directory) as (url, requests):
        program.document["tracing"] = {"endpoint": url, "sampleRatio": 1}
        await program.start()
        assert (await program.node.get(manifest())).status == 200
        program.terminate()
        assert await program.ended() == 0, program.log()
        return set(requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    "certificates", ["CA and leaf: as few extensions as possible", "intermediate trusted, root unknown"]
)
async def test_spans_go_to_a_collector_whose_certificate_go_accepts(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: str
) -> None:
    chain = GO_ACCEPTS[certificates](Subject("127.0.0.1"))
    assert await spans_of_a_pull(program, chain, tmp_path, monkeypatch) == {SPANS}


@pytest.mark.security
@pytest.mark.slow
@pytest.mark.parametrize("certificates", ["CA unknown", "other name"])
async def test_spans_go_to_no_collector_whose_certificate_go_refuses(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: str
) -> None:
    chain = (GO_REFUSES | GO_REFUSES_NAMES)[certificates](Subject("127.0.0.1"))
    assert await spans_of_a_pull(program, chain, tmp_path, monkeypatch) == set()
