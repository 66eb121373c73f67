"""Spans of a pull, the client's trace context, and what leads from a graph to a trace."""

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.observe import tracing
from tests.fakes.blobs import Generated
from tests.fakes.client import NodeClient, read_answer
from tests.fakes.proxy import LOGIN, blob, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OPENMETRICS = ("Accept", "application/openmetrics-text;version=1.0.0")


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Where spans go while a test runs."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_tracer(provider.get_tracer("test"))
    yield exporter
    tracing.use_tracer(None)
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_a_pull_is_one_trace_with_its_parts(
    node: NodeClient, registry: ScriptedRegistry, spans: InMemorySpanExporter
) -> None:
    assert (await node.get(manifest(), ("traceparent", PARENT))).status == 200
    found = spans.get_finished_spans()
    assert {span.name for span in found} >= {"GET", "upstream", "token"}
    assert {format(span.context.trace_id, "032x") for span in found if span.context} == {TRACE}
    [request] = named(spans, "GET")
    assert request.attributes is not None
    assert (request.attributes["status"], request.attributes["route"]) == (200, "manifest")
    sent = [call.headers.get("traceparent", "") for call in registry.record.of("manifest")]
    assert all(header.startswith(f"00-{TRACE}-") and header != PARENT for header in sent)


async def test_the_store_is_a_part_of_it(
    tmp_path: Path, registry: ScriptedRegistry, spans: InMemorySpanExporter
) -> None:
    digest = registry.add_blob("team/app", Generated(1000, seed=91)).digest
    async with started(settings([registry.url], login=LOGIN, cache={"path": str(tmp_path / "cache")})) as proxy:
        assert (await proxy.node.get(blob(digest))).status == 200
    assert {span.attributes["digest"] for span in named(spans, "store") if span.attributes} == {digest}


@pytest.mark.parametrize("state", [None, "vendor=1"])
async def test_without_tracing_a_clients_context_is_passed_on(
    node: NodeClient, registry: ScriptedRegistry, state: str | None
) -> None:
    more = (("tracestate", state),) if state else ()
    assert (await node.get(manifest(), ("traceparent", PARENT), *more)).status == 200
    assert {call.headers.get("traceparent") for call in registry.record.of("manifest")} == {PARENT}
    assert {call.headers.get("tracestate") for call in registry.record.of("manifest")} == {state}
    assert {call.headers.get("traceparent") for call in registry.record.tokens} == {None}


@pytest.mark.parametrize("parent", ["", "00-zz-b7ad6b7169203331-01", f"{PARENT}, {PARENT}", "01-" + PARENT[3:] + "-x"])
async def test_what_is_no_context_is_not_passed_on(node: NodeClient, registry: ScriptedRegistry, parent: str) -> None:
    assert (await node.get(manifest(), ("traceparent", parent))).status == 200
    assert {call.headers.get("traceparent") for call in registry.record.of("manifest")} == {None}


async def test_a_graph_leads_to_a_trace(registry: ScriptedRegistry, spans: InMemorySpanExporter) -> None:
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        assert (await proxy.node.get(manifest(), ("traceparent", PARENT))).status == 200
        page = (await _page(proxy.admin, OPENMETRICS)).decode()
        plain = (await _page(proxy.admin)).decode()
    assert f'# {{trace_id="{TRACE}"}}' in page
    assert page.endswith("# EOF\n")
    assert "trace_id" not in plain
    assert spans.get_finished_spans()


async def _page(admin: NodeClient, *headers: tuple[str, str]) -> bytes:
    async with admin.opened("GET", "/metrics", *headers) as (reader, _):
        return (await read_answer(reader, "GET")).body


async def test_no_secret_stands_in_a_span(node: NodeClient, spans: InMemorySpanExporter) -> None:
    assert (await node.get(manifest())).status == 200
    text = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "canary" not in text
    assert "upstream" in text


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(tracing.TracingError, match=r"scope-proxy\[otel\]"):
        tracing.set_up_tracing("http://127.0.0.1:4318/v1/traces", 1.0, "0", tls)
