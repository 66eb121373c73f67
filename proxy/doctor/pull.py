"""Checks of the pull: the manifest by HEAD and GET, one byte of a blob, rate limits, referrers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn

from proxy.config.address import Origin
from proxy.doctor.examination import REQUEST_ERRORS, Examination, Response, Stopped, explain
from proxy.doctor.report import Check, Fact, Journal
from proxy.doctor.subject import PulledImage
from proxy.oci.descriptor import ACCEPT, INDEX_TYPES, MANIFEST_LIMIT, media_type_of, parse_manifest
from proxy.oci.errors import UpstreamInvalid
from proxy.oci.reference import Digest
from proxy.upstream.client import REFUSED_HEAD
from proxy.upstream.rate_limit_headers import parse_rate_limit


def smallest_blob(manifest: bytes) -> tuple[Digest, int] | None:
    """Digest and size in bytes of the smallest blob that a manifest holds; empty ones aside."""
    sized = [(blob.digest, blob.size) for blob in parse_manifest(manifest).contents.blobs if blob.size > 0]
    return min(sized, key=lambda pair: pair[1], default=None)


_ADVICE = "configure an account, or wait; a cache sends fewer requests"


def check_rates(journal: Journal, host: str, *answers: Mapping[str, str]) -> None:
    """Report the rate limit of the first of these responses that has one."""
    now = time.time()
    reports = (parse_rate_limit(headers, now) for headers in answers)
    report = next((each for each in reports if each is not None), None)
    if report is None:
        journal.passed(Check.RATE_LIMIT, f"{host} reports no limit", limit=None, remaining=None)
        return
    left = "an unknown number" if report.remaining is None else str(report.remaining)
    of = "" if report.limit is None else f" of {report.limit}"
    window = "" if report.window is None else f", in a window of {report.window:.0f} s"
    source = f", counted for {report.source}" if report.source else ""
    seen = f"{left}{of} requests are left at {host}{window}{source}"
    facts: dict[str, Fact] = {
        "limit": report.limit,
        "remaining": report.remaining,
        "window": None if report.window is None else int(report.window),
        "resetSeconds": round(report.reset_at - now),
        "source": report.source or None,
    }
    if report.is_low:
        journal.warned(Check.RATE_LIMIT, seen, _ADVICE, **facts)
    else:
        journal.passed(Check.RATE_LIMIT, seen, **facts)


_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NO_HEAD = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
_MISSING = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_DIGEST = "Docker-Content-Digest"


@dataclass(frozen=True, slots=True)
class Pass:
    """A login's name and its Authorization header."""

    name: str
    header: str | None = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        return {} if self.header is None else {"Authorization": self.header}


@dataclass(frozen=True, slots=True)
class ManifestChecks:
    """The pulled manifest, and the pass that worked."""

    entered: Pass
    digest: Digest
    image: bytes | None = field(repr=False)
    """The manifest that names blobs; of an index its first one. None where there is none."""


async def check_manifests(exam: Examination, pulled: PulledImage, passes: Sequence[Pass]) -> ManifestChecks:
    """Request the manifest by HEAD, then by GET; raises Stopped where it is not available."""
    entered, head = await _check_head(exam, pulled, passes)
    got = await _get(exam, pulled, entered, str(pulled.reference))
    check_rates(exam.journal, exam.subject.host, head.headers, got.headers)
    media_type, digest = _judge(exam, pulled, got)
    image: bytes | None = got.body
    gets = 1
    if media_type in INDEX_TYPES:
        image, gets = await _first_image(exam, pulled, entered, got.body), 2
    kind = "index and the first manifest of it" if gets > 1 else "manifest"
    seen = f"{kind}, {len(got.body)} bytes, digest verified; {gets} GET, which registries count as pulls"
    facts: dict[str, Fact] = {"digest": str(digest), "mediaType": media_type, "bytes": len(got.body), "pulls": gets}
    exam.journal.passed(Check.GET, seen, **facts)
    return ManifestChecks(entered, digest, image)


async def _check_head(exam: Examination, pulled: PulledImage, passes: Sequence[Pass]) -> tuple[Pass, Response]:
    """Try the passes as a pull does: after a refusal the next one."""
    refused: list[tuple[Pass, int]] = []
    for each in passes:
        headers = {"Accept": ACCEPT, **each.headers}
        answer = await exam.request_for(Check.HEAD, "HEAD", pulled.manifest, headers, 0)
        if answer.status not in _REFUSED or answer.elsewhere:
            _report_refused(exam, refused, others_work=True)
            _report_head(exam, each, answer)
            return each, answer
        refused.append((each, answer.status))
    _report_refused(exam, refused, others_work=False)
    raise Stopped("not run: the registry refuses the manifest")


def _report_refused(exam: Examination, refused: Sequence[tuple[Pass, int]], *, others_work: bool) -> None:
    for each, status in refused:
        report = exam.journal.warned if others_work else exam.journal.failed
        seen = f"{exam.subject.host} answers {status} for {exam.subject.repository} with {each.name}"
        report(Check.HEAD, seen, "check the password, and the right to pull the repository", status=status)


def _report_head(exam: Examination, entered: Pass, answer: Response) -> None:
    journal, host, status = exam.journal, exam.subject.host, answer.status
    seen = f"{host} answers {status} with {entered.name}"
    if status == HTTPStatus.OK and _DIGEST in answer.headers:
        journal.passed(Check.HEAD, seen, status=status)
    elif status == HTTPStatus.OK:
        advice = (
            "each check of a tag costs a GET, which registries count: check the reverse proxy in front of the registry"
        )
        journal.warned(Check.HEAD, f"{seen}, without {_DIGEST}", advice, status=status)
    elif status in _NO_HEAD or (answer.elsewhere and status in REFUSED_HEAD):
        journal.warned(Check.HEAD, f"{seen}: HEAD is not supported", "each check of a tag costs a GET", status=status)
    else:
        journal.failed(Check.HEAD, seen, _advice(exam, status), status=status)
        check_rates(journal, host, answer.headers)
        raise Stopped("not run: the registry does not serve the manifest")


def _advice(exam: Examination, status: int) -> str:
    if status in _MISSING:
        return (
            f"it has no {exam.subject.repository} or no such tag: check the rewrite rule with scope-proxy explain IMAGE"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "too many requests: configure an account, or wait"
    return "check the registry's logs"


async def _get(exam: Examination, pulled: PulledImage, entered: Pass, reference: str) -> Response:
    headers = {"Accept": ACCEPT, **entered.headers}
    answer = await exam.request_for(Check.GET, "GET", pulled.url(f"manifests/{reference}"), headers, MANIFEST_LIMIT)
    if answer.status != HTTPStatus.OK:
        seen = f"{exam.subject.host} answers {answer.status} to GET of {reference}"
        exam.journal.failed(Check.GET, seen, _advice(exam, answer.status), status=answer.status)
        raise Stopped("not run: the manifest is not available")
    return answer


def _judge(exam: Examination, pulled: PulledImage, got: Response) -> tuple[str, Digest]:
    """The media type and digest of the response; raises Stopped where it is not the requested manifest."""
    if len(got.body) > MANIFEST_LIMIT:
        _report_wrong(exam, f"the response is larger than {MANIFEST_LIMIT} bytes")
    try:
        media_type = parse_manifest(got.body).media_type(got.headers.get("Content-Type"))
    except UpstreamInvalid:  # the message may repeat the response
        _report_wrong(exam, "the response is not a valid manifest")
    requested = pulled.reference if isinstance(pulled.reference, Digest) else None
    digest = Digest.of(got.body, requested.algorithm if requested else "sha256")
    named = [str(requested or digest), got.headers.get(_DIGEST, "")]
    if any(text != str(digest) for text in named if text.startswith(f"{digest.algorithm}:")):
        _report_wrong(exam, "digest mismatch: the manifest does not have the named digest")
    return media_type, digest


async def _first_image(exam: Examination, pulled: PulledImage, entered: Pass, index: bytes) -> bytes | None:
    """The first manifest that an index names; raises Stopped on a digest mismatch."""
    first = next(iter(parse_manifest(index).contents.manifests), None)
    if first is None:
        return None
    digest = first.digest
    got = await _get(exam, pulled, entered, str(digest))
    if Digest.of(got.body, digest.algorithm) != digest:
        _report_wrong(exam, f"the first manifest of the index does not have its digest {digest}")
    return got.body


def _report_wrong(exam: Examination, fault: str) -> NoReturn:
    advice = "check the reverse proxy in front of the registry: scope-proxy serves this to no client"
    exam.journal.failed(Check.GET, f"{exam.subject.host}: {fault}", advice)
    raise Stopped("not run: there is no valid manifest")


_FIRST_BYTE = "bytes=0-0"


async def check_blob(exam: Examination, pulled: PulledImage, manifests: ManifestChecks) -> None:
    """Request the first byte of a blob, and follow redirects as a pull does."""
    journal = exam.journal
    chosen = None if manifests.image is None else smallest_blob(manifests.image)
    if chosen is None:
        problem = "" if manifests.image is None else parse_manifest(manifests.image).contents.problem
        reason = f"the manifest is ambiguous: {problem}" if problem else "the manifest names no blob"
        for check in (Check.RANGE, Check.REDIRECT):
            journal.skipped(check, reason)
        return
    digest, size = chosen
    headers = {"Range": _FIRST_BYTE, **manifests.entered.headers}
    try:
        answer = await exam.request("GET", pulled.url(f"blobs/{digest}"), headers, limit=1)
    except REQUEST_ERRORS as error:
        _report_failure(exam, error)
        return
    _report_redirect(exam, answer)
    _report_range(exam, answer, size)


def _report_failure(exam: Examination, error: BaseException) -> None:
    failure, journal = explain(error, exam.subject.origin), exam.journal
    if failure.check is Check.REDIRECT:
        journal.failed(Check.REDIRECT, failure.seen, failure.advice)
        journal.skipped(Check.RANGE, "not run: the redirect was not followed")
    else:
        journal.failed(Check.RANGE, f"of a blob: {failure.seen}", failure.advice)
        journal.skipped(Check.REDIRECT, "not run: the blob is not available")


def _report_redirect(exam: Examination, answer: Response) -> None:
    host = exam.subject.host
    if not answer.elsewhere:
        exam.journal.passed(Check.REDIRECT, f"{host} serves blobs itself", target=None)
        return
    target = Origin.parse(str(answer.url.origin()))
    seen = f"{host} redirects blobs to {target}, which is allowed; no credential is sent there"
    exam.journal.passed(Check.REDIRECT, seen, target=str(target))


def _report_range(exam: Examination, answer: Response, size: int) -> None:
    journal, status = exam.journal, answer.status
    who = "the redirect target" if answer.elsewhere else exam.subject.host
    if status == HTTPStatus.PARTIAL_CONTENT and len(answer.body) == 1:
        journal.passed(Check.RANGE, f"one byte of a blob of {size} bytes was served", status=status)
    elif status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        advice = "interrupted downloads restart from the beginning: check the reverse proxy in front of the registry"
        journal.warned(Check.RANGE, f"{who} ignores Range and answers {status}", advice, status=status)
    else:
        advice = "check the registry's logs and storage: nodes cannot pull this blob"
        journal.failed(Check.RANGE, f"{who} answers {status} for a blob of the manifest", advice, status=status)


_ABSENT = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.NOT_ACCEPTABLE,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)


async def check_referrers(exam: Examination, pulled: PulledImage, manifests: ManifestChecks) -> None:
    """Request the referrers of the manifest."""
    journal, host = exam.journal, exam.subject.host
    try:
        answer = await exam.request("GET", pulled.url(f"referrers/{manifests.digest}"), manifests.entered.headers)
    except REQUEST_ERRORS as error:
        failure = explain(error, exam.subject.origin)
        journal.warned(Check.REFERRERS, f"of the referrers: {failure.seen}", failure.advice)
        return
    status = answer.status
    if status == HTTPStatus.OK and media_type_of(answer.headers.get("Content-Type")) in INDEX_TYPES:
        journal.passed(Check.REFERRERS, f"{host} has the referrers API", present=True)
    elif status in _ABSENT or status == HTTPStatus.OK:
        seen = f"{host} has no referrers API ({status}): clients use tags instead"
        journal.passed(Check.REFERRERS, seen, present=False, status=status)
    else:
        advice = "check the registry's logs: signatures cannot be looked up"
        journal.warned(Check.REFERRERS, f"{host} answers {status} for referrers", advice, status=status)
