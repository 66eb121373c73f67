"""What the images of a bundle are called in a cluster: the names in its index, and the registries of the operator."""

from collections.abc import Collection, Iterable, Iterator

from proxy.oci.descriptor import Descriptor
from proxy.oci.errors import RegistryError
from proxy.oci.reference import Digest, ImageReference, split_registry
from proxy.store.bundle import NamedManifest
from proxy.store.tar_entries import BundleError


def named_images(
    listed: Collection[NamedManifest], registries: Collection[str], name: str | None
) -> Iterator[tuple[ImageReference, Descriptor]]:
    """Every image once with its name; raises BundleError where a name or its registry is not clear.

    `registries` are those whose images the bundle may hold, and `name` is what the operator calls its only image.
    """
    if not listed:
        raise BundleError("it has no images")
    if name is not None and len({item.manifest.digest for item in listed}) != 1:
        raise BundleError(f"it has {len(listed)} images: --name is for a bundle of one")
    known: dict[str, Digest] = {}
    for item in listed:
        image = _image(item.name if name is None else name, item.manifest.digest, registries)
        if known.setdefault(str(image), item.manifest.digest) != item.manifest.digest:
            raise BundleError(f"it has two images with the name {image}")
    by_digest = {item.manifest.digest: item.manifest for item in listed}
    for text, digest in known.items():
        yield ImageReference.parse(text), by_digest[digest]


def _image(name: str, digest: Digest, registries: Collection[str]) -> ImageReference:
    registry, _ = split_registry(name)
    if not name or not ({"/", ":", "@"} & set(name)):
        # A word alone is the tag, by the OCI specification, and not a repository.
        called = f"only the tag {name[:128]!r}" if name else "no name"
        raise BundleError(f"the image {digest} has {called} in it: add --name {_example(registries)}/REPOSITORY:TAG")
    if registry is None and len(registries) != 1:
        raise BundleError(f"the image {name[:200]!r} in it names no registry: import it with one --registry")
    try:
        image = ImageReference.parse(name if registry is not None else f"{_example(registries)}/{name}")
    except RegistryError as error:
        raise BundleError(f"the name {name[:200]!r} in it is invalid: {error.reason}") from None
    if image.registry not in registries:
        raise BundleError(f"{image} is an image of another registry: if that is meant, add --registry {image.registry}")
    if isinstance(image.reference, Digest) and image.reference != digest:
        raise BundleError(f"the image {image} in it has the digest {digest}")
    return image


def _example(registries: Iterable[str]) -> str:
    return min(registries)
