"""What a person wants to know first: is it working, what is wrong, what to do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from proxy.auth.inward.watched_file import FileStatus
from proxy.server.status.values import (
    Certificate,
    EndpointStatus,
    Level,
    Notice,
    Process,
    Reload,
    Status,
    StoreFill,
    UpstreamStatus,
)
from proxy.store.format import EXPOSURE_ADVICE
from proxy.upstream.endpoints import EndpointState

SOON_SECONDS = 14 * 86400.0
"""A certificate that ends within so many seconds is told of."""
UNKEPT_SECONDS = 600.0
"""Content that could not be stored is told of for so long."""
REFUSALS = 3
"""So many answers in a row that are no use are more than one wrong name of an image: pulls fail."""
BY_LEVEL = (Level.BAD, Level.WARNING, Level.OK)
"""The worst first."""

_DOWN = frozenset({EndpointState.FAILING, EndpointState.COOLING, EndpointState.RESTING})
_UNKEPT = {
    "enospc": ("no space left on the disk, or within maxSize and reserveFree", "make room, or lower maxSize"),
    "edquot": ("the disk quota is used up", "make room, or have the quota raised"),
    "erofs": ("the disk is read-only", "look at its mount and at the kernel's log"),
    "eio": ("the disk answers errors", "look at the kernel's log, and replace the disk"),
    "timeout": ("the disk does not answer", "look at the disk, or at the network that it is behind"),
    "emfile": ("there are no file descriptors left", "raise the limit (ulimit -n, LimitNOFILE)"),
}
"""What the reasons mean, and what to do."""
_UNKEPT_OTHER = ("the log says why", "look at its rights, and at the log")
_DOCTOR = "Run scope-proxy doctor {name} on this machine: it says which step fails."


def level_of(endpoints: Iterable[EndpointStatus]) -> Level:
    """How bad it is for a registry that its endpoints are as they are."""
    fail = [_is_down(endpoint) or _refuses(endpoint) for endpoint in endpoints]
    if fail and all(fail):
        return Level.BAD
    return Level.WARNING if any(fail) else Level.OK


def _is_down(endpoint: EndpointStatus) -> bool:
    return endpoint.health.state in _DOWN


def _refuses(endpoint: EndpointStatus) -> bool:
    return endpoint.health.state is EndpointState.REFUSING and endpoint.health.refusals >= REFUSALS


def judged(status: Status) -> Status:
    """The status with what is found in it, the worst first."""
    found = (
        *_of_process(status.process),
        *_of_upstreams(status.upstreams),
        *_of_store(status.store),
        *_of_unkept(status),
        *_of_reload(status.reload),
        *_of_waiting(status.waiting),
        *_of_tls(status.tls_problems),
        *_of_client_files(status.client_files),
        *_of_certificates(status.certificates, status.at),
    )
    ordered = tuple(sorted(found, key=lambda finding: BY_LEVEL.index(finding.level)))
    return replace(status, findings=ordered, level=ordered[0].level if ordered else Level.OK)


def _of_process(process: Process) -> Iterator[Notice]:
    if process.draining:
        yield Notice(Level.WARNING, "It is stopping: pulls in flight are finished.", "Nothing, if you stopped it.")
    elif not process.ready:
        yield Notice(Level.BAD, "It does not serve nodes yet.", "Wait a moment; if it stays so, look at its log.")


def _of_upstreams(upstreams: Iterable[UpstreamStatus]) -> Iterator[Notice]:
    for upstream in upstreams:
        advice = _DOCTOR.format(name=upstream.name if upstream.name != "*" else "HOST")
        for endpoint in filter(_refuses, upstream.endpoints):
            times = f"{endpoint.health.refusals} times in a row"
            yield Notice(upstream.level, f"{upstream.name} answers, but {times} not as asked: {_why(endpoint)}", advice)
        down = [endpoint for endpoint in upstream.endpoints if _is_down(endpoint)]
        if down and upstream.level is Level.BAD:
            yield Notice(Level.BAD, f"Pulls from {upstream.name} fail: {_why(down[0])}", advice)
        elif down:
            yield Notice(Level.WARNING, f"{upstream.name}: others serve, one endpoint fails: {_why(down[0])}", advice)


def _why(endpoint: EndpointStatus) -> str:
    return endpoint.health.error or f"{endpoint.url} failed"


def _of_store(store: StoreFill | None) -> Iterator[Notice]:
    if store is not None and store.trouble:
        text = f"The cache cannot be used, pulls pass through: {store.trouble}"
        yield Notice(Level.WARNING, text, f"Look at the disk of {store.path}: room, rights, errors.")
    if store is not None and store.exposure:
        yield Notice(Level.WARNING, f"{store.exposure}.", f"{EXPOSURE_ADVICE[0].upper()}{EXPOSURE_ADVICE[1:]}.")


def _of_unkept(status: Status) -> Iterator[Notice]:
    store, unkept = status.store, status.unkept
    if store is None or store.trouble or unkept is None or status.at - unkept.at > UNKEPT_SECONDS:
        return
    why, advice = _UNKEPT.get(unkept.reason, _UNKEPT_OTHER)
    text = f"Nothing is kept, pulls pass through: {why}"
    yield Notice(Level.WARNING, text, f"The disk of {store.path}: {advice}. Storing begins again by itself.")


def _of_reload(reload: Reload | None) -> Iterator[Notice]:
    if reload is not None and reload.problems:
        text = f"The new configuration cannot be used, the old one stays in force: {reload.problems[0]}"
        yield Notice(Level.WARNING, text, "Run scope-proxy check: it prints all errors.")


def _of_waiting(settings: Sequence[str]) -> Iterator[Notice]:
    if settings:
        text = f"The configuration was read again, and of these settings the old values hold: {', '.join(settings)}"
        yield Notice(Level.WARNING, text, "Restart scope-proxy: they take effect only after a restart.")


def _of_tls(problems: Iterable[str]) -> Iterator[Notice]:
    for problem in problems:
        text = f"Changed files of a listener cannot be used, what was loaded before stays in use: {problem}"
        yield Notice(Level.WARNING, text, "Put files in place that fit each other: they are loaded without a restart.")


def _of_client_files(files: Iterable[FileStatus]) -> Iterator[Notice]:
    for file in files:
        if file.trouble and not file.count:
            text = f"Nobody can use what {file.setting} is for: {file.trouble}"
            yield Notice(Level.BAD, text, "Put a good file in its place: it is read again within a second.")
        elif file.trouble:
            text = f"{file.setting} is not read again, what it said before counts: {file.trouble}"
            yield Notice(Level.WARNING, text, "Look at the disk, and at the limit of descriptors (ulimit -n).")
        for problem in file.problems:
            text = f"A line of {file.setting} does not count, the others do: {problem}"
            yield Notice(Level.WARNING, text, "Correct the line: the file is read again within a second.")


def _of_certificates(certificates: Iterable[Certificate], now: float) -> Iterator[Notice]:
    for certificate in certificates:
        left = certificate.ends_at - now
        if left <= 0:
            yield Notice(Level.BAD, f"The certificate of {certificate.setting} has ended.", "Put a new one in place.")
        elif left < SOON_SECONDS:
            text = f"The certificate of {certificate.setting} ends in {left / 86400:.0f} days."
            yield Notice(Level.WARNING, text, "Put a new one in place: it is loaded without a restart.")
