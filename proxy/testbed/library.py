"""What a registry holds: manifests, tags and blobs, by repository."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.testbed.answer import BodyContent, Bytes
from proxy.testbed.images import Image


@dataclass(frozen=True, slots=True)
class HeldManifest:
    """A stored manifest."""

    digest: str
    media_type: str
    content: Bytes = field(repr=False)


@dataclass(slots=True)
class Repository:
    """One repository; tags point at digests."""

    manifests: dict[str, HeldManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, BodyContent] = field(default_factory=dict)

    def find(self, reference: str) -> HeldManifest | None:
        """The manifest that a tag or digest names."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, subject: str, artifact_type: str) -> Iterator[dict[str, Any]]:
        """Descriptors of the manifests whose subject has this digest; an empty type takes all."""
        for manifest in self.manifests.values():
            document = json.loads(manifest.content.data)
            if document.get("subject", {}).get("digest") != subject:
                continue
            kind = document.get("artifactType", "")
            if not artifact_type or artifact_type == kind:
                yield {
                    "mediaType": manifest.media_type,
                    "digest": manifest.digest,
                    "size": manifest.content.size,
                    "artifactType": kind,
                }


class Library:
    """All repositories of a registry."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}

    def repository(self, name: str) -> Repository:
        """The repository of this name, made when it is new."""
        return self.repositories.setdefault(name, Repository())

    def add(self, image: Image) -> None:
        """Hold an image, its platforms and its blobs; an equal tag moves."""
        repository = self.repository(image.repository)
        repository.manifests[image.digest] = HeldManifest(image.digest, image.media_type, Bytes(image.manifest))
        repository.blobs |= {digest: Bytes(data) for digest, data in image.blobs.items()}
        if image.tag:
            repository.tags[image.tag] = image.digest
        for child in image.platforms:
            self.add(child)
