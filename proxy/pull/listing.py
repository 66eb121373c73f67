"""Tag lists and referrers: passed on, with names and paging mapped back to what the node requested."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from multidict import CIMultiDictProxy

from proxy.config.model import Timeouts
from proxy.oci.descriptor import OCI_INDEX
from proxy.oci.errors import NameInvalid
from proxy.oci.reference import Digest
from proxy.oci.request import NAMESPACE, Operation
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import Wrong
from proxy.upstream.send import UpstreamRequest, UpstreamResponse

LIST_LIMIT = 8 * 1024 * 1024
"""Largest list of an upstream in bytes."""
PAGE_LIMIT = 10_000
"""Most tags of one page; a request for more gets so many and a Link to the rest."""

VALUE_LIMIT = 255
"""Longest value of a parameter in characters: tags have at most 128, media types 255."""

Query = tuple[tuple[str, str], ...]

_PAGING = frozenset({"n", "last"})
_FILTERED = _PAGING | {"artifactType"}
_LINK = re.compile(r'\s*<([^<>]{0,4096})>\s*;\s*(?:[^,]*;\s*)?rel="?next"?', re.IGNORECASE)
_FILTERS = re.compile(r"[A-Za-z]{1,64}(?:, ?[A-Za-z]{1,64}){0,7}")
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Listing:
    """A list for the node: its JSON, the query of the next page (None: this is the last), and headers to pass on."""

    content: bytes = field(repr=False)
    media_type: str
    next_query: Query | None
    headers: dict[str, str]


class Listings:
    """Fetches tag lists and referrers."""

    def __init__(self, client: UpstreamClient, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts

    async def tags(self, route: Route, name: str, query: Query) -> Listing:
        """One page of the tags, under the name that the node requested; raises RegistryError.

        `n` and `last` are honoured also where the upstream ignores them (distribution 2.8 does).
        """
        accepted = _passed(query, _PAGING)
        page = _page_size(accepted)
        request = UpstreamRequest(Operation.TAGS, "tags/list", accept="application/json", query=accepted)

        responses = self._client.responses(route, request, Deadline.after(self._timeouts.manifest))
        while True:
            async with await responses.next() as response:
                fields = await _read_json(response, "tag list")
                tags = fields.get("tags") or []
                if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                    raise Wrong(f"{response.target.endpoint.origin.authority} sent a tag list without tags")
                listed, next_query = _paged(tags, accepted, page, _linked(response.headers))
                break
        return Listing(json.dumps({"name": name, "tags": listed}).encode(), "application/json", next_query, {})

    async def referrers(self, route: Route, digest: Digest, query: Query) -> Listing:
        """The referrers of a manifest, as the upstream lists them; raises RegistryError.

        Where the upstream has no such list the answer is 404, and clients look for the fallback tag themselves.
        """
        accepted = _passed(query, _FILTERED)
        request = UpstreamRequest(Operation.REFERRERS, f"referrers/{digest}", accept=OCI_INDEX, query=accepted)

        responses = self._client.responses(route, request, Deadline.after(self._timeouts.manifest))
        while True:
            async with await responses.next() as response:
                headers = response.headers
                fields, content = await _read_index(response)
                if not isinstance(fields.get("manifests"), list):
                    raise Wrong(f"{response.target.endpoint.origin.authority} sent referrers without manifests")
                break
        applied = headers.get("OCI-Filters-Applied", "")
        passed = {"OCI-Filters-Applied": applied} if _FILTERS.fullmatch(applied) else {}
        linked = _linked(headers)
        return Listing(content, OCI_INDEX, linked if linked and _is_ours(linked, _FILTERED) else None, passed)


def link_header(path: str, next_query: Query, namespace: str | None) -> str:
    """The Link header of the next page, under the path and with the `ns=` that the node itself used."""
    query = [*next_query, *([(NAMESPACE, namespace)] if namespace is not None else [])]
    return f'<{quote(path)}?{urlencode(query)}>; rel="next"'


async def _read_json(response: UpstreamResponse, what: str) -> dict[str, Any]:
    async with response.whole(LIST_LIMIT, what) as content:
        return _object(response, content, what)


async def _read_index(response: UpstreamResponse) -> tuple[dict[str, Any], bytes]:
    async with response.whole(LIST_LIMIT, "list of referrers") as content:
        return _object(response, content, "list of referrers"), content


def _object(response: UpstreamResponse, content: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Wrong(f"{response.target.endpoint.origin.authority} sent a {what} that is not a JSON object")
    return fields


def _passed(query: Query, names: frozenset[str]) -> Query:
    """What of a node's query goes to the upstream: what the API knows, once each; raises NameInvalid.

    Anything else is left out: what a registry makes of it is no pull (`account=`, `_catalog` switches, a second scope).
    """
    passed = {name: value for name, value in query if name in names}
    if len(passed) != sum(name in names for name, _ in query):
        raise NameInvalid(f"one of {', '.join(sorted(names))} is given more than once")
    if any(len(value) > VALUE_LIMIT for value in passed.values()):
        raise NameInvalid(f"a parameter of the list is longer than {VALUE_LIMIT} characters")
    if "n" in passed:
        passed["n"] = str(_number(passed["n"]))
    return tuple(passed.items())


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii():
        raise NameInvalid("n= is not a number of tags")
    return min(int(text[:10]), PAGE_LIMIT)


def _page_size(query: Query) -> int | None:
    return next((int(value) for name, value in query if name == "n"), None)


def _is_ours(query: Query, names: frozenset[str]) -> bool:
    """Whether a node may come back with this very query."""
    try:
        return query != () and _passed(query, names) == query
    except NameInvalid:
        return False


def _linked(headers: CIMultiDictProxy[str]) -> Query | None:
    """The query of the upstream's next page; only that: where its Link points is never followed."""
    for line in headers.getall("Link", []):
        if match := _LINK.match(line):
            try:
                pairs = parse_qsl(urlsplit(match[1]).query, max_num_fields=16)
            except ValueError:
                return None
            return tuple(pair for pair in pairs if pair[0] != NAMESPACE and _PRINTABLE.fullmatch("".join(pair)))
    return None


def _paged(tags: Sequence[str], query: Query, page: int | None, linked: Query | None) -> tuple[list[str], Query | None]:
    """The tags of the requested page, and the query of the next one."""
    last = next((value for name, value in query if name == "last"), None)
    paged = list(tags)
    if last in paged:  # the upstream did not take `last` into account
        paged = paged[paged.index(last) + 1 :]
    whole = page is None or len(paged) <= page
    if whole and (linked is None or _is_ours(linked, _PAGING)):
        return paged, linked
    # A page that the upstream names in a way of its own can be requested by its last tag as well.
    paged = paged[:page]
    size = () if page is None else (("n", str(page)),)
    return paged, (*size, ("last", paged[-1])) if paged else None
