"""The explain box of the status page: an image's name in, its route out."""

from dataclasses import dataclass
from typing import Any

from proxy.config.loaded import Loaded
from proxy.oci.errors import NameInvalid, RegistryError
from proxy.oci.reference import ImageReference
from proxy.routing.caller import ANONYMOUS_NAME
from proxy.routing.explain import explain_image
from proxy.routing.explain_text import explanation_lines
from proxy.server.shown import shown

IMAGE_LIMIT = 600
"""Characters of an image's name: registry, repository, tag and digest at their longest."""
CLIENT_LIMIT = 256
"""Characters of a client's name."""


@dataclass(frozen=True, slots=True)
class Box:
    """What was typed, and what came of it."""

    image: str = ""
    client: str = ""
    text: str = ""
    """The explanation in lines."""
    error: str = ""
    """Why there is none."""
    data: dict[str, Any] | None = None
    """The same for scripts."""


def explained(loaded: Loaded, image: str, client: str) -> Box:
    """The route of an image, or why it has none; makes a route table, so it is not for the event loop."""
    typed, who = shown(image.strip(), IMAGE_LIMIT), shown(client.strip(), CLIENT_LIMIT)
    try:
        reference = _reference(image.strip(), client.strip())
        found = explain_image(loaded.config, loaded.positions, reference, who or ANONYMOUS_NAME)
    except RegistryError as error:
        failure = {"error": {"code": error.code, "reason": shown(error.reason)}}
        return Box(typed, who, error=f"{error.code}: {shown(error.reason)}", data=failure)
    return Box(typed, who, text="\n".join(explanation_lines(found)), data=found.as_dict())


def _reference(image: str, client: str) -> ImageReference:
    """What was typed, as an image; raises NameInvalid and DigestInvalid."""
    if not image:
        raise NameInvalid("type the name of an image, such as docker.io/library/alpine:3")
    if len(image) > IMAGE_LIMIT:
        raise NameInvalid(f"the image's name is longer than {IMAGE_LIMIT} characters")
    if len(client) > CLIENT_LIMIT:
        raise NameInvalid(f"the client's name is longer than {CLIENT_LIMIT} characters")
    return ImageReference.parse(image)
