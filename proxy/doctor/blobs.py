"""One byte of the smallest blob: whether ranges are served, and where the registry sends us for it."""

from proxy.config.address import Origin
from proxy.doctor.blob_choice import smallest_blob
from proxy.doctor.examination import Examination, Response
from proxy.doctor.manifests import ManifestChecks
from proxy.doctor.report import Check
from proxy.doctor.subject import Pulled
from proxy.doctor.trouble import TROUBLE, explain
from proxy.oci.descriptor import parse_manifest

_FIRST_BYTE = "bytes=0-0"
_OK = 200
_PARTIAL = 206


async def check_blob(exam: Examination, pulled: Pulled, manifests: ManifestChecks) -> None:
    """Ask for the first byte, and follow where the registry redirects to, as a pull does."""
    journal = exam.journal
    chosen = None if manifests.image is None else smallest_blob(manifests.image)
    if chosen is None:
        problem = "" if manifests.image is None else parse_manifest(manifests.image).contents.problem
        reason = f"the manifest cannot be read in one way only: {problem}" if problem else "the manifest names no blob"
        for check in (Check.RANGE, Check.REDIRECT):
            journal.skipped(check, reason)
        return
    digest, size = chosen
    headers = {"Range": _FIRST_BYTE, **manifests.entered.headers}
    try:
        answer = await exam.ask("GET", pulled.url(f"blobs/{digest}"), headers, limit=1)
    except TROUBLE as error:
        _tell_trouble(exam, error)
        return
    _tell_redirect(exam, answer)
    _tell_range(exam, answer, size)


def _tell_trouble(exam: Examination, error: BaseException) -> None:
    trouble, journal = explain(error, exam.subject.origin), exam.journal
    if trouble.check is Check.REDIRECT:
        journal.failed(Check.REDIRECT, trouble.seen, trouble.advice)
        journal.skipped(Check.RANGE, "not reached: the redirect was not followed")
    else:
        journal.failed(Check.RANGE, f"of a blob: {trouble.seen}", trouble.advice)
        journal.skipped(Check.REDIRECT, "not reached: the blob cannot be had")


def _tell_redirect(exam: Examination, answer: Response) -> None:
    host = exam.subject.host
    if not answer.elsewhere:
        exam.journal.passed(Check.REDIRECT, f"{host} serves blobs itself", target=None)
        return
    target = Origin.parse(str(answer.url.origin()))
    seen = f"{host} sends us to {target} for blobs, which is allowed; no credential is sent there"
    exam.journal.passed(Check.REDIRECT, seen, target=str(target))


def _tell_range(exam: Examination, answer: Response, size: int) -> None:
    journal, status = exam.journal, answer.status
    who = "the server that it sends us to" if answer.elsewhere else exam.subject.host
    if status == _PARTIAL and len(answer.body) == 1:
        journal.passed(Check.RANGE, f"one byte of a blob of {size} bytes was served", status=status)
    elif status in (_OK, _PARTIAL):
        advice = "downloads that break off begin anew: look at what stands before the registry"
        journal.warned(Check.RANGE, f"{who} ignores Range and answers {status}", advice, status=status)
    else:
        advice = "look at the registry's logs and at its storage: nodes cannot pull this blob"
        journal.failed(Check.RANGE, f"{who} answers {status} for a blob of the manifest", advice, status=status)
