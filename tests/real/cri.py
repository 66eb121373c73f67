"""The container runtime interface, as the kubelet calls it to pull images."""

import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

READY_POLL = 0.1  # seconds
PULL_TIMEOUT = 60.0
CALL_TIMEOUT = 10.0
PROTOCOL = "tests/real/cri.proto"  # found below the directories of sys.path


@dataclass(frozen=True, slots=True)
class Auth:
    """The credentials that the kubelet hands over with a pull (from an imagePullSecret)."""

    username: str = ""
    password: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)  # base64 of user:password
    server_address: str = ""
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the runtime knows of an image; the id is the digest of its configuration."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int


class CriError(Exception):
    """The runtime refused a call; the text is what a pod's events would show."""


class Cri:
    """A client of one containerd's image service."""

    def __init__(self, socket: Path) -> None:
        self._messages, services = _protocol()
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self._service = services.ImageServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def wait_ready(self, timeout: float) -> None:
        """Return when the image service answers; before that it says that it is not initialized yet."""
        request = self._messages.ListImagesRequest()
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._service.ListImages(request, timeout=timeout, wait_for_ready=True)
            except grpc.RpcError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(READY_POLL)
            else:
                return

    def pull(self, image: str, auth: Auth | None = None, timeout: float = PULL_TIMEOUT) -> str:
        """Pull an image and give its reference; CriError with the runtime's own words."""
        request = self._messages.PullImageRequest(image=self._spec(image))
        if auth is not None:
            request.auth.CopyFrom(self._auth(auth))
        return str(self._call("PullImage", request, timeout).image_ref)

    def status(self, image: str) -> ImageInfo | None:
        """The image, or None when it is not there."""
        answer = self._call("ImageStatus", self._messages.ImageStatusRequest(image=self._spec(image)))
        return _info(answer.image) if answer.HasField("image") else None

    def images(self) -> tuple[ImageInfo, ...]:
        """Every image of the node."""
        answer = self._call("ListImages", self._messages.ListImagesRequest())
        return tuple(_info(image) for image in answer.images)

    def remove(self, image: str) -> None:
        """Remove an image with its content."""
        self._call("RemoveImage", self._messages.RemoveImageRequest(image=self._spec(image)))

    def _call(self, method: str, request: Any, timeout: float = CALL_TIMEOUT) -> Any:
        try:
            return getattr(self._service, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise CriError(f"{error.code().name}: {error.details()}") from None

    def _spec(self, image: str) -> Any:
        return self._messages.ImageSpec(image=image)

    def _auth(self, auth: Auth) -> Any:
        return self._messages.AuthConfig(
            username=auth.username,
            password=auth.password,
            auth=auth.auth,
            server_address=auth.server_address,
            identity_token=auth.identity_token,
        )


@functools.cache
def _protocol() -> Any:
    return grpc.protos_and_services(PROTOCOL)


def _info(image: Any) -> ImageInfo:
    return ImageInfo(str(image.id), tuple(image.repo_tags), tuple(image.repo_digests), int(image.size))
