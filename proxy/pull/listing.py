"""Tag lists and referrers: passed on, with names and paging mapped back to what the node asked for."""

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
from proxy.pull.bodies import read_whole
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.client import Ask, Opened, UpstreamClient
from proxy.upstream.failure import Wrong

LIST_LIMIT = 8 * 1024 * 1024
"""Largest list of an upstream in bytes."""
PAGE_LIMIT = 10_000
"""Most tags of one page; a request for more gets so many and a Link to the rest."""

Query = tuple[tuple[str, str], ...]

_LINK = re.compile(r'\s*<([^<>]{0,4096})>\s*;\s*(?:[^,]*;\s*)?rel="?next"?', re.IGNORECASE)
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
        """One page of the tags, under the name that the node asked for; raises RegistryError.

        `n` and `last` are honoured also where the upstream ignores them (distribution 2.8 does).
        """
        page = _page_size(query)
        ask = Ask(Operation.TAGS, "tags/list", accept="application/json", query=query)

        async def consume(opened: Opened) -> Listing:
            fields = await _read_json(opened, "tag list")
            tags = fields.get("tags") or []
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                raise Wrong(f"{opened.target.endpoint.origin.authority} sent a tag list without tags")
            shown, next_query = _paged(tags, query, page, _next_query(opened.response.headers))
            content = json.dumps({"name": name, "tags": shown}).encode()
            return Listing(content, "application/json", next_query, {})

        return await self._client.fetch(route, ask, Deadline.after(self._timeouts.manifest), consume)

    async def referrers(self, route: Route, digest: Digest, query: Query) -> Listing:
        """The referrers of a manifest, as the upstream lists them; raises RegistryError.

        Where the upstream has no such list the answer is 404, and clients look for the fallback tag themselves.
        """
        ask = Ask(Operation.REFERRERS, f"referrers/{digest}", accept=OCI_INDEX, query=query)

        async def consume(opened: Opened) -> Listing:
            headers = opened.response.headers
            fields, content = await _read_index(opened)
            if not isinstance(fields.get("manifests"), list):
                raise Wrong(f"{opened.target.endpoint.origin.authority} sent referrers without manifests")
            applied = headers.get("OCI-Filters-Applied", "")
            passed = {"OCI-Filters-Applied": applied} if applied and _PRINTABLE.fullmatch(applied) else {}
            return Listing(content, OCI_INDEX, _next_query(headers), passed)

        return await self._client.fetch(route, ask, Deadline.after(self._timeouts.manifest), consume)


def link_header(path: str, next_query: Query, namespace: str | None) -> str:
    """The Link header of the next page, under the path and with the `ns=` that the node itself used."""
    query = [*next_query, *([(NAMESPACE, namespace)] if namespace is not None else [])]
    return f'<{quote(path)}?{urlencode(query)}>; rel="next"'


async def _read_json(opened: Opened, what: str) -> dict[str, Any]:
    return _object(opened, await read_whole(opened, LIST_LIMIT, what), what)


async def _read_index(opened: Opened) -> tuple[dict[str, Any], bytes]:
    content = await read_whole(opened, LIST_LIMIT, "list of referrers")
    return _object(opened, content, "list of referrers"), content


def _object(opened: Opened, content: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Wrong(f"{opened.target.endpoint.origin.authority} sent a {what} that is not a JSON object")
    return fields


def _page_size(query: Query) -> int | None:
    asked = [value for name, value in query if name == "n"]
    if not asked:
        return None
    if len(asked) > 1 or not asked[0].isdecimal() or not asked[0].isascii():
        raise NameInvalid("n= is not a number of tags")
    return min(int(asked[0][:10]), PAGE_LIMIT)


def _next_query(headers: CIMultiDictProxy[str]) -> Query | None:
    """The query of the upstream's next page; only that: where its Link points is never followed."""
    for line in headers.getall("Link", []):
        if match := _LINK.match(line):
            try:
                pairs = parse_qsl(urlsplit(match[1]).query, max_num_fields=16)
            except ValueError:
                return None
            return tuple(pair for pair in pairs if pair[0] != NAMESPACE and _PRINTABLE.fullmatch("".join(pair)))
    return None


def _paged(
    tags: Sequence[str], query: Query, page: int | None, upstream_next: Query | None
) -> tuple[list[str], Query | None]:
    """The tags of the page that was asked for, and the query of the next one."""
    last = next((value for name, value in query if name == "last"), None)
    shown = list(tags)
    if last in shown:  # the upstream did not take `last` into account
        shown = shown[shown.index(last) + 1 :]
    if page is None or len(shown) <= page:
        return shown, upstream_next
    shown = shown[:page]
    return shown, (("n", str(page)), ("last", shown[-1])) if shown else None
