"""The answers of a registry to somebody who may pull."""

import itertools
import re
from urllib.parse import urlencode

from proxy.testbed.answer import Answer, BodyContent, body_answer, error_answer, json_answer
from proxy.testbed.images import OCI_INDEX
from proxy.testbed.library import Repository
from proxy.testbed.record import Call

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def manifest(call: Call, repository: Repository) -> Answer:
    """A manifest by tag or digest."""
    found = repository.find(call.reference)
    if found is None:
        return error_answer(404, "MANIFEST_UNKNOWN", "manifest unknown")
    headers = [("Docker-Content-Digest", found.digest), ("ETag", f'"{found.digest}"')]
    return body_answer(200, found.content, found.media_type, headers)


def blob(call: Call, repository: Repository) -> Answer:
    """A blob, or the part of it that `Range` asks for."""
    content = repository.blobs.get(call.reference)
    if content is None:
        return error_answer(404, "BLOB_UNKNOWN", "blob unknown to registry")
    headers = [("Docker-Content-Digest", call.reference), ("ETag", f'"{call.reference}"')]
    return content_answer(call, content, headers)


def content_answer(call: Call, content: BodyContent, headers: list[tuple[str, str]]) -> Answer:
    """The content, or the part of it that `Range` asks for: 200, 206 or 416."""
    whole = body_answer(200, content, "application/octet-stream", [("Accept-Ranges", "bytes"), *headers])
    match = _RANGE.fullmatch(call.header("Range"))
    if match is None or not any(match.groups()):
        return whole
    start, stop = _span(match[1], match[2], content.size)
    if start >= stop:
        unfit = ("Content-Range", f"bytes */{content.size}")
        return error_answer(416, "RANGE_INVALID", "no such range", [unfit])
    return slice_answer(whole, start, stop)


def slice_answer(whole: Answer, start: int, stop: int) -> Answer:
    """The 206 answer for the bytes from `start` up to `stop` of a whole answer."""
    part = Answer(206, whole.headers, whole.content, start, stop)
    return part.having(
        ("Content-Length", str(stop - start)),
        ("Content-Range", f"bytes {start}-{stop - 1}/{whole.content.size}"),
    )


def tags(call: Call, repository: Repository, root: str) -> Answer:
    """The tags in order, after `last`, at most `n`, with a link to the rest."""
    last, limit = call.value("last"), call.value("n")
    names = [tag for tag in sorted(repository.tags) if tag > last]
    page = list(itertools.islice(names, int(limit))) if limit.isdigit() else names
    headers = []
    if page and len(page) < len(names):
        query = urlencode({"last": page[-1], "n": limit})
        headers = [("Link", f'<{root}/{call.repository}/tags/list?{query}>; rel="next"')]
    return json_answer(200, {"name": call.repository, "tags": page}, headers)


def referrers(call: Call, repository: Repository) -> Answer:
    """The index of the manifests that refer to a digest."""
    wanted = call.value("artifactType")
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": list(repository.referrers(call.reference, wanted)),
    }
    filtered = [("OCI-Filters-Applied", "artifactType")] if wanted else []
    return json_answer(200, index, filtered).having(("Content-Type", OCI_INDEX))


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size
