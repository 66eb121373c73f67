"""What is examined: one endpoint, and with an image one repository of it."""

from dataclasses import dataclass

from yarl import URL

from proxy.config.address import EndpointAddress, Origin
from proxy.oci.reference import Digest, Tag
from proxy.oci.request import NAMESPACE
from proxy.routing.table import Target


@dataclass(frozen=True, slots=True)
class Pulled:
    """The image that is asked for at an endpoint."""

    target: Target
    reference: Tag | Digest

    @property
    def manifest(self) -> URL:
        """The URL of its manifest."""
        return self.url(f"manifests/{self.reference}")

    def url(self, suffix: str) -> URL:
        """The URL of something of the repository, as a pull asks for it."""
        namespace = self.target.namespace
        return URL(self.target.url(suffix), encoded=True).with_query([(NAMESPACE, namespace)] if namespace else [])


@dataclass(frozen=True, slots=True)
class Subject:
    """One endpoint."""

    address: EndpointAddress
    upstream: str
    """The entry of `registries` that it belongs to."""
    place: str
    """Where it is written."""
    pulled: Pulled | None = None

    @property
    def origin(self) -> Origin:
        """The endpoint's origin."""
        return self.address.origin

    @property
    def host(self) -> str:
        """The endpoint's host as people write it, and as a key of `hosts`."""
        return self.origin.authority

    @property
    def repository(self) -> str | None:
        """The upstream repository."""
        return None if self.pulled is None else self.pulled.target.repository

    @property
    def ping(self) -> URL:
        """The URL that tells whether this is a registry: its API root, what follows `/v2` left out."""
        segments = self.address.root.strip("/").split("/")
        kept = segments[: segments.index("v2") + 1] if "v2" in segments else segments
        return URL(f"{self.origin}/{'/'.join(kept)}/", encoded=True)
