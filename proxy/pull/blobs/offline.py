"""`cache.offline`: where online a blob would pass through, the client has to try again."""

from proxy.oci.byterange import ByteRange
from proxy.oci.reference import Digest
from proxy.pull.blobs.live import Blob
from proxy.pull.blobs.passthrough import PassThrough
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.offline import unreadable

_CAUSE = "it is failing or busy, see the log"


class OfflinePassThrough(PassThrough):
    """Refuses blobs that the store could not serve: they may be stored, so the response is 503 and not 404."""

    async def get(
        self,
        route: Route,
        digest: Digest,
        wanted_range: ByteRange | None,  # noqa: ARG002 - the same parameters as online
        deadline: Deadline | None = None,  # noqa: ARG002 - as above
    ) -> Blob:
        """Raise UpstreamUnavailable."""
        raise unreadable(route, f"blobs/{digest}", _CAUSE)

    async def head(self, route: Route, digest: Digest, deadline: Deadline | None = None) -> int:  # noqa: ARG002 - as above
        """Raise UpstreamUnavailable."""
        raise unreadable(route, f"blobs/{digest}", _CAUSE)
