"""The subject of an examination: one endpoint, and with an image one of its repositories."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from yarl import URL

from proxy.config.address import EndpointAddress, Origin, default_endpoint
from proxy.config.load import Loaded
from proxy.config.model import ANY
from proxy.oci.reference import Digest, ImageReference, Tag
from proxy.oci.request import NAMESPACE
from proxy.routing.table import RouteTable, Target


@dataclass(frozen=True, slots=True)
class PulledImage:
    """The image pulled from an endpoint."""

    target: Target
    reference: Tag | Digest

    @property
    def manifest(self) -> URL:
        """The URL of its manifest."""
        return self.url(f"manifests/{self.reference}")

    def url(self, suffix: str) -> URL:
        """The URL of a resource of the repository, as a pull requests it."""
        namespace = self.target.namespace
        return URL(self.target.url(suffix), encoded=True).with_query([(NAMESPACE, namespace)] if namespace else [])


@dataclass(frozen=True, slots=True)
class Subject:
    """One endpoint."""

    address: EndpointAddress
    upstream: str
    """The entry of `registries` that it belongs to."""
    place: str
    """Its position in the configuration."""
    pulled: PulledImage | None = None

    @property
    def origin(self) -> Origin:
        """The endpoint's origin."""
        return self.address.origin

    @property
    def host(self) -> str:
        """The endpoint's host, as a key of `hosts`."""
        return self.origin.authority

    @property
    def repository(self) -> str | None:
        """The upstream repository."""
        return None if self.pulled is None else self.pulled.target.repository

    @property
    def ping(self) -> URL:
        """The URL of the API root, up to `/v2`, which shows whether this is a registry."""
        segments = self.address.root.strip("/").split("/")
        kept = segments[: segments.index("v2") + 1] if "v2" in segments else segments
        return URL(f"{self.origin}/{'/'.join(kept)}/", encoded=True)


class HostUnknown(Exception):
    """The configuration has no such endpoint; the message lists the configured ones."""


def choose(loaded: Loaded, argument: str | None) -> tuple[Subject, ...]:
    """The endpoints to examine, each once.

    Never examines an unconfigured host: a mistyped name would receive the credentials of an entry `"*"` of `hosts`.
    Raises HostUnknown, and RegistryError for an image that cannot be pulled.
    """
    subjects = tuple(_subjects(loaded))
    if argument is None:
        return _each_once(subjects)
    named = argument.removesuffix("/").lower()
    meant = tuple(subject for subject in subjects if named in _names(subject))
    if meant:
        return _each_once(meant)
    if _is_host(named):
        known = ", ".join(dict.fromkeys(subject.host for subject in subjects)) or "none"
        raise HostUnknown(f"the configuration has no endpoint at {argument[:100]!r}; its endpoints: {known}")
    return _of_image(loaded, ImageReference.parse(argument))


def _subjects(loaded: Loaded) -> Iterator[Subject]:
    for name, entry in loaded.config.registries.items():
        for index, endpoint in enumerate(entry.endpoints):
            place = loaded.positions.at("registries", name, "endpoints", index)
            yield Subject(endpoint.address, name, place)
        if not entry.endpoints and name != ANY:
            yield Subject(default_endpoint(name), name, loaded.positions.at("registries", name))


def _names(subject: Subject) -> frozenset[str]:
    """The names of an endpoint: its registry, its host with or without the port, its URL."""
    origin = subject.origin
    hosts = (origin.authority, origin.host, f"{origin.authority_host}:{origin.port}")
    return frozenset((subject.upstream, *hosts, str(origin), str(subject.address)))


def _is_host(name: str) -> bool:
    """Whether it cannot be an image: a URL, or a host name alone (`alpine:3.20` is an image, `quay.io` a host)."""
    return "://" in name or ("/" not in name and ("." in name.partition(":")[0] or name.startswith("localhost")))


def _each_once(subjects: Iterable[Subject]) -> tuple[Subject, ...]:
    first: dict[str, Subject] = {}
    for subject in subjects:
        first.setdefault(str(subject.ping), subject)
    return tuple(first.values())


def _of_image(loaded: Loaded, image: ImageReference) -> tuple[Subject, ...]:
    route = RouteTable(loaded.config, loaded.positions).resolve(image.repository, namespace=image.registry)
    return tuple(
        Subject(target.endpoint, route.upstream, target.place, PulledImage(target, image.reference))
        for target in route.targets
    )
