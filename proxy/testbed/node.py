"""A pull as an unpatched containerd does it, request by request."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp

from proxy.testbed.node_auth import NodeAuth
from proxy.testbed.node_http import BLOB_CAP, MANIFEST_CAP, HostError, NodeHttp
from proxy.testbed.node_values import NodeLogin, Pull, PullFailed, PullTarget, Reply

MAX_RESPONSES = 6
"""Answers to one request before containerd gives a host up."""

ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json, */*"
)
USER_AGENT = "containerd/1.7.22"


async def pull(target: PullTarget, login: NodeLogin | None = None) -> Pull:
    """Pull one image from one host; raises PullFailed with containerd's words and the steps so far.

    Like containerd, requests no token and sends no credential without a challenge.
    """
    async with aiohttp.ClientSession(
        headers={"User-Agent": USER_AGENT}, skip_auto_headers=["Accept", "Accept-Encoding"], trust_env=False
    ) as session:
        return await _Node(NodeHttp(session), target, login).pull()


class _Node:
    def __init__(self, http: NodeHttp, target: PullTarget, login: NodeLogin | None) -> None:
        self._http = http
        self._target = target
        self._login = login
        self._auth = self._new_auth()

    async def pull(self) -> Pull:
        """Resolve the reference, then fetch what it names."""
        failure = f'failed to pull and unpack image "{self._target.image}"'
        step = f'failed to resolve reference "{self._target.image}"'
        try:
            digest, media_type = await self._resolve()
            step = "failed to copy: httpReadSeeker: failed open"
            self._auth = self._new_auth()
            manifests = await self._manifests(digest, media_type)
            blobs = await self._blobs(next(reversed(manifests.values())))
        except HostError as error:
            raise PullFailed(f"{failure}: {step}: {error}", self._http.steps) from error
        return Pull(digest, manifests, blobs, tuple(self._http.steps))

    def _new_auth(self) -> NodeAuth:
        return NodeAuth(self._http, self._target.original, self._login)

    async def _resolve(self) -> tuple[str, str]:
        path = f"manifests/{self._target.reference}"
        reply = await self._request("HEAD", path, ACCEPT, MANIFEST_CAP)
        if reply.status == 404:  # noqa: PLR2004 - the one status with words of its own
            raise HostError(f"{self._target.image}: not found")
        self._expect(reply)
        digest = reply.headers.get("Docker-Content-Digest", "")
        if not digest or "Content-Length" not in reply.headers:
            reply = self._expect(await self._request("GET", path, ACCEPT, MANIFEST_CAP))
            digest = _sha256(reply.body)
        return digest, reply.headers.get("Content-Type", "")

    async def _manifests(self, digest: str, media_type: str) -> dict[str, bytes]:
        body = await self._verified(f"manifests/{digest}", media_type, digest, MANIFEST_CAP)
        found = {digest: body}
        child = _choose(_document(body), self._target.platform)
        if child is not None:
            path = f"manifests/{child['digest']}"
            found[child["digest"]] = await self._verified(path, child["mediaType"], child["digest"], MANIFEST_CAP)
        return found

    async def _blobs(self, manifest: bytes) -> dict[str, bytes]:
        blobs = {}
        for wanted in _wanted(_document(manifest)):
            path = f"blobs/{wanted['digest']}"
            blobs[wanted["digest"]] = await self._verified(path, wanted["mediaType"], wanted["digest"], BLOB_CAP)
            if len(blobs[wanted["digest"]]) != wanted["size"]:
                raise HostError(f"failed size validation: {wanted['digest']}: failed precondition")
        return blobs

    async def _verified(self, path: str, media_type: str, digest: str, cap: int) -> bytes:
        accept = f"{media_type}, */*" if media_type else "*/*"
        reply = self._expect(await self._request("GET", path, accept, cap))
        actual = _sha256(reply.body)
        if actual != digest:
            raise HostError(f'unexpected commit digest {actual}, expected "{digest}": failed precondition')
        return reply.body

    async def _request(self, method: str, path: str, accept: str, cap: int) -> Reply:
        url = f"{self._target.root}/{self._target.repository}/{path}"
        if self._target.host != self._target.registry:
            url += f"?ns={self._target.registry}"
        return await self._persist(lambda headers: self._http.send(method, url, headers, cap), accept)

    async def _persist(self, send: Callable[[dict[str, str]], Awaitable[Reply]], accept: str) -> Reply:
        self._auth.new_request()
        reply = await send(await self._headers(accept))
        for _ in range(MAX_RESPONSES - 1):
            again = self._auth.learn(reply) if reply.status == 401 else reply.status in {408, 429}  # noqa: PLR2004
            if not again:
                break
            reply = await send(await self._headers(accept))
        return reply

    async def _headers(self, accept: str) -> dict[str, str]:
        authorization = await self._auth.header()
        return {"Accept": accept} | ({"Authorization": authorization} if authorization else {})

    @staticmethod
    def _expect(reply: Reply) -> Reply:
        if not reply.good:
            raise HostError(reply.complaint)
        return reply


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise HostError(f"failed to decode the manifest: {error}") from error
    if not isinstance(document, dict):
        raise HostError("failed to decode the manifest: it is no object")
    return document


def _choose(document: dict[str, Any], platform: str) -> dict[str, Any] | None:
    """The platform's entry of an index; None for a manifest."""
    if "manifests" not in document:
        return None
    for entry in document["manifests"]:
        known = entry.get("platform", {})
        if f"{known.get('os')}/{known.get('architecture')}" == platform:
            return dict(entry)
    raise HostError(f"no match for platform in manifest: {platform}: not found")


def _wanted(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "config" not in document or "layers" not in document:
        raise HostError("encountered unknown type, no config or layers")
    yield from (document["config"], *document["layers"])
