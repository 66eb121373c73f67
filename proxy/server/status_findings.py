"""What a person wants to know first: is it working, what is wrong, what to do."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from proxy.server.status import (
    Certificate,
    EndpointStatus,
    Finding,
    Level,
    Process,
    Reload,
    Status,
    StoreFill,
    UpstreamStatus,
)
from proxy.upstream.endpoints import EndpointState

SOON_SECONDS = 14 * 86400.0
"""A certificate that ends within so many seconds is told of."""
BY_LEVEL = (Level.BAD, Level.WARNING, Level.OK)
"""The worst first."""
BY_LEVEL = (Level.BAD, Level.WARNING, Level.OK)
"""The worst first."""

_DOWN = frozenset({EndpointState.FAILING, EndpointState.COOLING, EndpointState.RESTING})
_DOCTOR = "Run scope-proxy doctor {name} on this machine: it says which step fails."


def level_of(endpoints: Iterable[EndpointStatus]) -> Level:
    """How bad it is for a registry that its endpoints are as they are."""
    states = {endpoint.health.state for endpoint in endpoints}
    if states and states <= _DOWN:
        return Level.BAD
    return Level.WARNING if states & {*_DOWN, EndpointState.REFUSING} else Level.OK


def judged(status: Status) -> Status:
    """The status with what is found in it, the worst first."""
    found = (
        *_of_process(status.process),
        *_of_upstreams(status.upstreams),
        *_of_store(status.store),
        *_of_reload(status.reload),
        *_of_certificates(status.certificates, status.at),
    )
    ordered = tuple(sorted(found, key=lambda finding: BY_LEVEL.index(finding.level)))
    return replace(status, findings=ordered, level=ordered[0].level if ordered else Level.OK)


def _of_process(process: Process) -> Iterator[Finding]:
    if process.draining:
        yield Finding(Level.WARNING, "It is stopping: pulls in flight are finished.", "Nothing, if you stopped it.")
    elif not process.ready:
        yield Finding(Level.BAD, "It does not serve nodes yet.", "Wait a moment; if it stays so, look at its log.")


def _of_upstreams(upstreams: Iterable[UpstreamStatus]) -> Iterator[Finding]:
    for upstream in upstreams:
        advice = _DOCTOR.format(name=upstream.name if upstream.name != "*" else "HOST")
        for endpoint in upstream.endpoints:
            if endpoint.health.state is EndpointState.REFUSING:
                yield Finding(
                    Level.WARNING, f"{upstream.name} answers, but not with what was asked for: {_why(endpoint)}", advice
                )
        down = [endpoint for endpoint in upstream.endpoints if endpoint.health.state in _DOWN]
        if down and upstream.level is Level.BAD:
            yield Finding(Level.BAD, f"{upstream.name} is down: {_why(down[0])}", advice)
        elif down:
            yield Finding(Level.WARNING, f"{upstream.name}: others serve, one endpoint fails: {_why(down[0])}", advice)


def _why(endpoint: EndpointStatus) -> str:
    return endpoint.health.error or f"{endpoint.url} failed"


def _of_store(store: StoreFill | None) -> Iterator[Finding]:
    if store is not None and store.trouble:
        text = f"The cache cannot be used, pulls pass through: {store.trouble}"
        yield Finding(Level.WARNING, text, f"Look at the disk of {store.path}: room, rights, errors.")


def _of_reload(reload: Reload | None) -> Iterator[Finding]:
    if reload is not None and reload.problems:
        text = f"The new configuration cannot be used, the old one stays in force: {reload.problems[0]}"
        yield Finding(Level.WARNING, text, "Run scope-proxy check: it prints all errors.")


def _of_certificates(certificates: Iterable[Certificate], now: float) -> Iterator[Finding]:
    for certificate in certificates:
        left = certificate.ends_at - now
        if left <= 0:
            yield Finding(Level.BAD, f"The certificate of {certificate.setting} has ended.", "Put a new one in place.")
        elif left < SOON_SECONDS:
            text = f"The certificate of {certificate.setting} ends in {left / 86400:.0f} days."
            yield Finding(Level.WARNING, text, "Put a new one in place: it is loaded without a restart.")
