"""What proves a right: the upstream's answer to a client's own credential, if it is one that only a registry gives.

A page that asks people to log in is answered with 200 as well.
"""

from proxy.oci.descriptor import ACCEPT, MANIFEST_LIMIT, MANIFEST_TYPES, media_type_of
from proxy.oci.errors import DigestInvalid, UpstreamInvalid
from proxy.oci.reference import Digest
from proxy.oci.request import Operation, RegistryRequest
from proxy.pull.bodies import whole_body
from proxy.pull.parsing import parse
from proxy.routing.table import Route, Target
from proxy.transport.clock import Deadline
from proxy.upstream.ask import Ask, Opened
from proxy.upstream.client import UpstreamClient
from proxy.upstream.failure import Wrong

_PAGE = "text/html"


def proof_of(asked: RegistryRequest) -> Ask:
    """A HEAD of the very thing that was asked for: what it answers is the right that is needed."""
    if asked.operation is Operation.MANIFEST:
        return Ask(Operation.MANIFEST, f"manifests/{asked.reference}", "HEAD", ACCEPT)
    return Ask(Operation.BLOB, f"blobs/{asked.digest}", "HEAD", "*/*")


async def prove(
    client: UpstreamClient, route: Route, ask: Ask, deadline: Deadline, patience: float
) -> tuple[Target, float]:
    """The endpoint that says yes, and until when what it was asked with is good; raises RegistryError."""

    async def consume(opened: Opened) -> tuple[Target, float] | None:
        try:
            is_proof = await _is_proof(opened, ask)
        finally:
            opened.close()
        return (opened.target, opened.good_until) if is_proof else None

    found = await client.fetch(route, ask, deadline, consume, patience=patience)
    if found is None:  # a HEAD that leaves out what tells a manifest from a page
        whole = Ask(ask.operation, ask.suffix, "GET", ask.accept)
        found = await client.fetch(route, whole, deadline, consume, patience=patience)
    if found is None:
        raise UpstreamInvalid(f"no endpoint of {route.registry} answers for {ask.suffix} as a registry does")
    return found


async def _is_proof(opened: Opened, ask: Ask) -> bool:
    """Whether the answer is about what was asked; False for a HEAD that does not tell. Raises Wrong."""
    response, host = opened.response, opened.target.endpoint.origin.authority
    told_type = media_type_of(response.headers.get("Content-Type"))
    told, wanted = _digest(response.headers.get("Docker-Content-Digest", "")), _digest(ask.suffix.rpartition("/")[2])
    if None not in (told, wanted) and told != wanted:
        raise Wrong(f"{host} tells another digest than the one that was asked for")
    if _has_strayed(opened):
        raise Wrong(f"{host} redirects to a page of its own where something of a repository was asked for")
    if ask.operation is Operation.BLOB:
        if told_type == _PAGE:
            raise Wrong(f"{host} answers with a page where a blob was asked for")
        return True
    if told_type in MANIFEST_TYPES:
        return True
    if response.method == "HEAD":
        return False
    try:
        async with whole_body(opened, MANIFEST_LIMIT, "manifest") as content:
            parsed = await parse(content)
        parsed.media_type(response.headers.get("Content-Type"))
    except UpstreamInvalid as error:
        raise Wrong(f"{host}: {error.reason}") from None
    return True


def _has_strayed(opened: Opened) -> bool:
    """Whether the endpoint has sent us to another place on itself than its registry."""
    endpoint, url = opened.target.endpoint, opened.response.url
    same = (url.scheme, url.host, url.port) == (endpoint.origin.scheme, endpoint.origin.host, endpoint.origin.port)
    return same and not url.path.startswith(f"{endpoint.root}/")


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None
