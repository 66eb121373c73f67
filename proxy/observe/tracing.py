"""Tracing with OpenTelemetry, if the extra `otel` is installed and tracing is configured.

Without tracing, this module only forwards a client's own trace context (W3C `traceparent`) to registries.
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
"""Longest `tracestate` in characters that is forwarded (W3C Trace Context, section 3.3.1.5)."""

_PARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[ -~]*")
_inbound: ContextVar[Mapping[str, str]] = ContextVar("trace_context", default=MappingProxyType({}))
_tracer: Any = None
_NO_SPAN = nullcontext()


class TracingError(ValueError):
    """Tracing is configured but OpenTelemetry is not installed, or its environment variables are invalid."""


def set_up_tracing(endpoint: str, ratio: float, version: str, tls: ssl.SSLContext) -> Callable[[], None]:
    """Send spans to a collector (OTLP over HTTP) for this ratio of the traces that begin here; return a stop function.

    `tls` is used only for connections to the collector: its CAs are loaded into it. The stop function blocks until the
    remaining spans are sent. Raises TracingError.
    """
    provider = _provider(endpoint, ratio, version, tls)
    use_tracer(provider.get_tracer("scope-proxy", version))
    end: Callable[[], None] = provider.shutdown
    return end


def check_tracing(endpoint: str, ratio: float, version: str) -> None:
    """Check that `set_up_tracing` would succeed; sends nothing. Raises TracingError."""
    _provider(endpoint, ratio, version, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).shutdown()


def _provider(endpoint: str, ratio: float, version: str, tls: ssl.SSLContext) -> Any:
    """The provider that creates and sends spans; raises TracingError."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
    except ImportError:
        raise TracingError("needs OpenTelemetry: install scope-proxy[otel], or remove tracing") from None
    try:
        resource = Resource.create({"service.name": "scope-proxy", "service.version": version})
        provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, session=_session(tls))))
    except (ValueError, RuntimeError) as error:  # from its environment variables
        raise TracingError(f"cannot set up OpenTelemetry: {error}: check the variables OTEL_...") from None
    return provider


def _session(tls: ssl.SSLContext) -> Any:
    """A session with our TLS context for the exporter: the default context of urllib3 depends on the Python version."""
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
    """Create spans with this tracer; None disables tracing."""
    global _tracer  # noqa: PLW0603 - one per process, like the log
    _tracer = tracer


class RequestTrace:
    """The span of a client's request."""

    def __init__(self, current: Any) -> None:
        self._span = current

    def annotate(self, **attributes: str | int) -> None:
        """Add attributes to the span; they must not hold secrets."""
        self._span.set_attributes(attributes)

    def exemplar(self) -> dict[str, str] | None:
        """The exemplar that links a metric to this trace; None if the trace is not sampled."""
        from opentelemetry.trace import format_trace_id  # noqa: PLC0415 - an extra

        context = self._span.get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return None
        return {"trace_id": format_trace_id(context.trace_id)}


def request_span(headers: Mapping[str, str], name: str) -> AbstractContextManager[RequestTrace | None]:
    """The span of a client's request, in the client's trace if it sent a trace context; None without tracing."""
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
    """The span of a step of a request; attributes must not hold secrets."""
    if _tracer is None:
        return _NO_SPAN
    started: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=attributes)
    return started


def outgoing_context() -> dict[str, str]:
    """The headers that propagate the trace to a registry."""
    if _tracer is None:
        return dict(_inbound.get())
    from opentelemetry.propagate import inject  # noqa: PLC0415 - an extra

    carrier: dict[str, str] = {}
    inject(carrier)
    return {name: value for name, value in carrier.items() if name in (TRACEPARENT, TRACESTATE)}


def _read(headers: Mapping[str, str]) -> Mapping[str, str]:
    """A client's trace context if it is valid: scope-proxy forwards it in its own requests."""
    parent, state = headers.get(TRACEPARENT, ""), headers.get(TRACESTATE, "")
    if not _PARENT.fullmatch(parent):
        return {}
    if not state or len(state) > STATE_LIMIT or not _STATE.fullmatch(state):
        return {TRACEPARENT: parent}
    return {TRACEPARENT: parent, TRACESTATE: state}
