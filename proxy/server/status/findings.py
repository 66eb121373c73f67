"""The findings at the top of the status page: what fails, and how to fix it."""

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
    StoreUsage,
    UpstreamStatus,
)
from proxy.store.format import EXPOSURE_ADVICE
from proxy.store.pins import PIN_ADVICE
from proxy.upstream.endpoints import EndpointState
from proxy.upstream.rate_limits import CLIENT_LABEL, RateLimitStatus

EXPIRES_SOON_SECONDS = 14 * 86400.0
"""Certificates that expire within this time are reported."""
WRITE_ERROR_SECONDS = 600.0
"""How long a failure to store content is reported."""
REFUSALS = 3
"""Refusals in a row from which pulls count as failing; fewer may be a wrong image name."""
BY_LEVEL = (Level.BAD, Level.WARNING, Level.OK)
"""Worst first."""

_DOWN = frozenset({EndpointState.FAILING, EndpointState.COOLING, EndpointState.RESTING})
_WRITE_ERRORS = {
    "enospc": ("no space left on the disk, or maxSize or reserveFree is reached", "free disk space, or lower maxSize"),
    "edquot": ("the disk quota is exceeded", "free disk space, or raise the quota"),
    "erofs": ("the disk is read-only", "check the mount and the kernel log"),
    "eio": ("the disk reports I/O errors", "check the kernel log, and replace the disk"),
    "timeout": ("the disk does not respond", "check the disk, or the network of a network file system"),
    "emfile": ("no file descriptors are left", "raise the limit (ulimit -n, LimitNOFILE)"),
}
"""Meaning and advice, by reason."""
_WRITE_ERROR_OTHER = ("see the log", "check its permissions, and the log")
_DOCTOR = "Run scope-proxy doctor {name} on this machine: it reports which step fails."


def level_of(endpoints: Iterable[EndpointStatus]) -> Level:
    """The level of a registry with these endpoints."""
    fail = [_is_down(endpoint) or _refuses(endpoint) for endpoint in endpoints]
    if fail and all(fail):
        return Level.BAD
    return Level.WARNING if any(fail) else Level.OK


def _is_down(endpoint: EndpointStatus) -> bool:
    return endpoint.health.state in _DOWN


def _refuses(endpoint: EndpointStatus) -> bool:
    return endpoint.health.state is EndpointState.REFUSING and endpoint.health.refusals >= REFUSALS


def with_findings(status: Status) -> Status:
    """The status with its findings, worst first."""
    findings = (
        *_of_process(status.process),
        *_of_upstreams(status.upstreams),
        *_of_rate_limits(status.rate_limits),
        *_of_store(status.store),
        *_of_write_error(status),
        *_of_reload(status.reload),
        *_of_waiting(status.waiting),
        *_of_tls(status.tls_problems),
        *_of_client_files(status.client_files),
        *_of_certificates(status.certificates, status.at),
    )
    ordered = tuple(sorted(findings, key=lambda finding: BY_LEVEL.index(finding.level)))
    return replace(status, findings=ordered, level=ordered[0].level if ordered else Level.OK)


def _of_process(process: Process) -> Iterator[Notice]:
    if process.draining:
        text = "scope-proxy is shutting down and completes pulls in flight."
        yield Notice(Level.WARNING, text, "Nothing, if you stopped it.")
    elif not process.ready:
        yield Notice(Level.BAD, "scope-proxy does not serve nodes yet.", "Wait a moment, then check its log.")


def _of_upstreams(upstreams: Iterable[UpstreamStatus]) -> Iterator[Notice]:
    for upstream in upstreams:
        advice = _DOCTOR.format(name=upstream.name if upstream.name != "*" else "HOST")
        for endpoint in filter(_refuses, upstream.endpoints):
            times = f"{endpoint.health.refusals} refusals or unusable responses in a row"
            text = f"{upstream.name} sent {times}: {_why(endpoint)}"
            yield Notice(upstream.level, text, advice)
        down = [endpoint for endpoint in upstream.endpoints if _is_down(endpoint)]
        if down and upstream.level is Level.BAD:
            yield Notice(Level.BAD, f"Pulls from {upstream.name} fail: {_why(down[0])}", advice)
        elif down:
            yield Notice(Level.WARNING, f"{upstream.name}: one endpoint fails, others work: {_why(down[0])}", advice)


def _why(endpoint: EndpointStatus) -> str:
    return endpoint.health.error or f"{endpoint.url} failed"


def _of_rate_limits(limits: Iterable[RateLimitStatus]) -> Iterator[Notice]:
    """What is low; clients use up the limits of their own credentials themselves."""
    for known in limits:
        if known.low and known.credential != CLIENT_LABEL:
            of = "" if known.limit is None else f" of {known.limit}"
            text = f"{known.upstream} has {known.remaining}{of} requests left ({known.credential})."
            advice = (
                "Configure a credential with a higher limit, or a mirror. Until the reset, known tags may be served "
                "stale, and new images may fail."
            )
            yield Notice(Level.WARNING, text, advice)


def _of_store(store: StoreUsage | None) -> Iterator[Notice]:
    if store is not None and store.trouble:
        text = f"The cache is unavailable, pulls are not cached: {store.trouble}"
        yield Notice(Level.WARNING, text, f"Check the disk of {store.path}: free space, permissions, errors.")
    if store is not None and store.exposure:
        yield Notice(Level.WARNING, f"{store.exposure}.", f"{EXPOSURE_ADVICE[0].upper()}{EXPOSURE_ADVICE[1:]}.")
    if store is not None and store.pins:
        yield Notice(Level.WARNING, f"{store.pins[0].upper()}{store.pins[1:]}.", PIN_ADVICE)


def _of_write_error(status: Status) -> Iterator[Notice]:
    store, error = status.store, status.unkept
    if store is None or store.trouble or error is None or status.at - error.at > WRITE_ERROR_SECONDS:
        return
    why, advice = _WRITE_ERRORS.get(error.reason, _WRITE_ERROR_OTHER)
    text = f"Content could not be stored, pulls are not cached: {why}"
    yield Notice(
        Level.WARNING,
        text,
        f"The disk of {store.path}: {advice}. scope-proxy then stores content again without a restart.",
    )


def _of_reload(reload: Reload | None) -> Iterator[Notice]:
    if reload is not None and reload.problems:
        text = f"The changed configuration cannot be loaded, the previous one stays in use: {reload.problems[0]}"
        yield Notice(Level.WARNING, text, "Run scope-proxy check: it reports all errors.")


def _of_waiting(settings: Sequence[str]) -> Iterator[Notice]:
    if settings:
        text = f"The configuration was reloaded; these settings keep their old values: {', '.join(settings)}"
        yield Notice(Level.WARNING, text, "Restart scope-proxy to apply them.")


def _of_tls(problems: Iterable[str]) -> Iterator[Notice]:
    for problem in problems:
        text = f"Changed TLS files of a listener cannot be loaded, the previous ones stay in use: {problem}"
        yield Notice(
            Level.WARNING, text, "Replace them with a matching certificate and key: they are loaded without a restart."
        )


def _of_client_files(files: Iterable[FileStatus]) -> Iterator[Notice]:
    for file in files:
        if file.trouble and not file.count:
            text = f"{file.setting} is unusable, so clients cannot authenticate: {file.trouble}"
            yield Notice(Level.BAD, text, "Replace it with a valid file: it is loaded within a second.")
        elif file.trouble:
            text = f"{file.setting} cannot be reloaded, its previous content stays in use: {file.trouble}"
            yield Notice(Level.WARNING, text, "Check the disk, and the limit of file descriptors (ulimit -n).")
        for problem in file.problems:
            text = f"A line of {file.setting} is invalid and ignored: {problem}"
            yield Notice(Level.WARNING, text, "Correct the line: the file is loaded within a second.")


def _of_certificates(certificates: Iterable[Certificate], now: float) -> Iterator[Notice]:
    for certificate in certificates:
        left = certificate.ends_at - now
        if left <= 0:
            yield Notice(Level.BAD, f"The certificate of {certificate.setting} has expired.", "Replace it.")
        elif left < EXPIRES_SOON_SECONDS:
            text = f"The certificate of {certificate.setting} expires in {left / 86400:.0f} days."
            yield Notice(Level.WARNING, text, "Replace it: the new one is loaded without a restart.")
