"""Push images over HTTP into a registry that asks for no token."""

import hashlib
import http.client
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import quote, urlsplit

from tests.real.content import Blob
from tests.real.images import Image

REQUEST_TIMEOUT = 60.0
ANSWER_LIMIT = 64 * 1024


class Uploader:
    """One connection to the registry at `address` (`127.0.0.1:<port>`)."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=REQUEST_TIMEOUT)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def push(self, image: Image) -> None:
        """Push an image with its children, layers first."""
        for blob in image.blobs:
            self.put_blob(image.repository, blob)
        for child in image.children:
            self.put_manifest(image.repository, child.digest, child)
        self.put_manifest(image.repository, image.tag, image.manifest)

    def put_manifest(self, repository: str, reference: str, manifest: Blob) -> None:
        """Push a manifest whose blobs are there."""
        headers = {"Content-Type": manifest.media_type}
        self._request("PUT", f"/v2/{repository}/manifests/{reference}", manifest.data, headers)

    def put_blob(self, repository: str, blob: Blob) -> None:
        """Push one blob."""
        self._finish(self._session(repository), blob.digest, blob.data)

    def stream_blob(self, repository: str, chunks: Iterable[bytes], size: int) -> str:
        """Push a blob of `size` bytes piece by piece and give its digest."""
        hashed = hashlib.sha256()
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        location = self._request("PATCH", self._session(repository), _tee(chunks, hashed.update), headers)
        digest = f"sha256:{hashed.hexdigest()}"
        self._finish(location, digest, b"")
        return digest

    def _session(self, repository: str) -> str:
        return self._request("POST", f"/v2/{repository}/blobs/uploads/", b"", {})

    def _finish(self, location: str, digest: str, rest: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        self._request("PUT", f"{location}&digest={quote(digest)}", rest, headers)

    def _request(self, method: str, target: str, body: bytes | Iterator[bytes], headers: Mapping[str, str]) -> str:
        self._connection.request(method, target, body, dict(headers))
        with self._connection.getresponse() as response:
            answer = response.read(ANSWER_LIMIT)
            assert response.status in {201, 202}, f"{method} {target}: {response.status} {answer.decode()}"
            location = urlsplit(response.headers.get("Location", ""))
        return f"{location.path}?{location.query}"


def _tee(chunks: Iterable[bytes], see: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        see(chunk)
        yield chunk
