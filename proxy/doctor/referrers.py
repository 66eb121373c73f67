"""Whether the registry lists what refers to a manifest: signatures, bills of materials."""

from proxy.doctor.examination import Examination
from proxy.doctor.manifests import ManifestChecks
from proxy.doctor.report import Check
from proxy.doctor.subject import Pulled
from proxy.doctor.trouble import TROUBLE, explain
from proxy.oci.descriptor import INDEX_TYPES, media_type_of

_OK = 200
_ABSENT = frozenset({400, 404, 405, 406, 501})


async def check_referrers(exam: Examination, pulled: Pulled, manifests: ManifestChecks) -> None:
    """Ask for the referrers of the manifest."""
    journal, host = exam.journal, exam.subject.host
    try:
        answer = await exam.ask("GET", pulled.url(f"referrers/{manifests.digest}"), manifests.entered.headers)
    except TROUBLE as error:
        trouble = explain(error, exam.subject.origin)
        journal.warned(Check.REFERRERS, f"of the referrers: {trouble.seen}", trouble.advice)
        return
    status = answer.status
    if status == _OK and media_type_of(answer.headers.get("Content-Type")) in INDEX_TYPES:
        journal.passed(Check.REFERRERS, f"{host} has the referrers API", present=True)
    elif status in _ABSENT or status == _OK:
        seen = f"{host} has no referrers API ({status}): clients look for tags in its place"
        journal.passed(Check.REFERRERS, seen, present=False, status=status)
    else:
        advice = "look at the registry's logs: signatures cannot be looked up"
        journal.warned(Check.REFERRERS, f"{host} answers {status} for referrers", advice, status=status)
