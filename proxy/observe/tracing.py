"""Tracing with OpenTelemetry, where the extra `otel` is installed and tracing is configured; else next to nothing.

A client's own trace context (W3C `traceparent`) is passed on to registries in either case.
"""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
STATE_LIMIT = 512
"""Characters of a `tracestate` that are passed on (W3C Trace Context, section 3.3.1.5)."""

_PARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[ -~]*")
_inbound: ContextVar[Mapping[str, str]] = ContextVar("trace_context", default=MappingProxyType({}))
_tracer: Any = None
_NO_SPAN = nullcontext()


class TracingError(ValueError):
    """Tracing is configured and cannot be used: OpenTelemetry is missing, or its environment variables are wrong."""


def set_up_tracing(endpoint: str, ratio: float, version: str, tls: ssl.SSLContext) -> Callable[[], None]:
    """Send spans to a collector (OTLP over HTTP), for this share of the traces that begin here; gives what ends it.

    `tls` is for connections to the collector alone: its CAs are loaded into it. Ending it blocks until what is left has
    been sent. Raises TracingError.
    """
    provider = _provider(endpoint, ratio, version, tls)
    use_tracer(provider.get_tracer("scope-proxy", version))
    end: Callable[[], None] = provider.shutdown
    return end


def check_tracing(endpoint: str, ratio: float, version: str) -> None:
    """Make sure that `set_up_tracing` can do the same; sends nothing. Raises TracingError."""
    _provider(endpoint, ratio, version, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).shutdown()


def _provider(endpoint: str, ratio: float, version: str, tls: ssl.SSLContext) -> Any:
    """What makes spans and sends them; raises TracingError."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
    except ImportError:
        raise TracingError("needs OpenTelemetry: install scope-proxy[otel], or take tracing out") from None
    try:
        resource = Resource.create({"service.name": "scope-proxy", "service.version": version})
        provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, session=_session(tls))))
    except (ValueError, RuntimeError) as error:  # of its environment variables
        raise TracingError(f"OpenTelemetry cannot be set up: {error}: look at the variables OTEL_...") from None
    return provider


def _session(tls: ssl.SSLContext) -> Any:
    """How the exporter sends requests: with our TLS context, as the rules of urllib3's own change with Python."""
    from requests import Session  # noqa: PLC0415 - an extra
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
            super().init_poolmanager(*arguments, **more, ssl_context=tls)

        def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
            return super().proxy_manager_for(proxy, **more, ssl_context=tls)

    session = Session()
    session.mount("https://", Adapter())
    return session


def use_tracer(tracer: Any) -> None:
    """Make spans with this tracer; None for none."""
    global _tracer  # noqa: PLW0603 - one for the process, as the log is
    _tracer = tracer


class RequestTrace:
    """The span of a client's request."""

    def __init__(self, current: Any) -> None:
        self._span = current

    def annotate(self, **attributes: str | int) -> None:
        """Say more of it; attributes hold no secret."""
        self._span.set_attributes(attributes)

    def exemplar(self) -> dict[str, str] | None:
        """What leads from a graph to the trace; None where its spans are not sent."""
        from opentelemetry.trace import format_trace_id  # noqa: PLC0415 - an extra

        context = self._span.get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return None
        return {"trace_id": format_trace_id(context.trace_id)}


def request_span(headers: Mapping[str, str], name: str) -> AbstractContextManager[RequestTrace | None]:
    """The span of a client's request, in the trace that the client is in, if it says so; None without tracing."""
    return _NO_SPAN if _tracer is None and TRACEPARENT not in headers else _request_span(_read(headers), name)


@contextmanager
def _request_span(inbound: Mapping[str, str], name: str) -> Iterator[RequestTrace | None]:
    kept = _inbound.set(inbound)
    try:
        if _tracer is None:
            yield None
            return
        from opentelemetry.propagate import extract  # noqa: PLC0415 - an extra
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        with _tracer.start_as_current_span(name, context=extract(inbound), kind=SpanKind.SERVER) as current:
            yield RequestTrace(current)
    finally:
        _inbound.reset(kept)


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """A part of what is done for a request; attributes hold no secret."""
    if _tracer is None:
        return _NO_SPAN
    found: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=attributes)
    return found


def outgoing_context() -> dict[str, str]:
    """The headers that carry the trace on to a registry."""
    if _tracer is None:
        return dict(_inbound.get())
    from opentelemetry.propagate import inject  # noqa: PLC0415 - an extra

    carrier: dict[str, str] = {}
    inject(carrier)
    return {name: value for name, value in carrier.items() if name in (TRACEPARENT, TRACESTATE)}


def _read(headers: Mapping[str, str]) -> Mapping[str, str]:
    """A client's context, if it is one: what it sends goes into requests of ours."""
    parent, state = headers.get(TRACEPARENT, ""), headers.get(TRACESTATE, "")
    if not _PARENT.fullmatch(parent):
        return {}
    if not state or len(state) > STATE_LIMIT or not _STATE.fullmatch(state):
        return {TRACEPARENT: parent}
    return {TRACEPARENT: parent, TRACESTATE: state}
