"""A response as a value, to inspect, change and send in parts."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Protocol

PIECE = 256 * 1024
"""Bytes handed out at once: enough to be fast, little enough to stop between two of them."""


class BodyContent(Protocol):
    """A body of known size that can be read from any place."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of at most `PIECE`."""
        ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.data)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of at most `PIECE`."""
        for at in range(start, stop, PIECE):
            yield self.data[at : min(at + PIECE, stop)]


NOTHING = Bytes(b"")


Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, header lines and the part of a body that goes out."""

    status: int
    headers: Headers = ()
    content: BodyContent = NOTHING
    start: int = 0
    stop: int | None = None  # None: to the end of the content
    reason: str = ""

    @property
    def end(self) -> int:
        """The place in the content where the body ends."""
        return self.content.size if self.stop is None else self.stop

    @property
    def phrase(self) -> str:
        """The reason phrase: the answer's own, else the usual one."""
        known = self.status in {status.value for status in HTTPStatus}
        return self.reason or (HTTPStatus(self.status).phrase if known else "Unknown")

    def header(self, name: str) -> str:
        """The first value of a header, or the empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def without(self, *names: str) -> "Answer":
        """The same without these headers."""
        removed = {name.lower() for name in names}
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in removed))

    def having(self, *pairs: tuple[str, str]) -> "Answer":
        """The same with these header lines in place of any of the same name."""
        kept = self.without(*(name for name, _ in pairs))
        return kept.plus(pairs)

    def plus(self, pairs: Headers) -> "Answer":
        """The same with these header lines added, also beside others of the same name."""
        return replace(self, headers=self.headers + pairs)

    def body(self) -> bytes:
        """The whole body that goes out; meant for small ones."""
        return b"".join(self.content.pieces(self.start, self.end))


def body_answer(status: int, content: BodyContent, media_type: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer that sends a whole body and says how long it is."""
    lines = (("Content-Type", media_type), ("Content-Length", str(content.size)), *headers)
    return Answer(status, lines, content)


def json_answer(status: int, document: Any, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer that sends a JSON document."""
    return body_answer(status, Bytes(json.dumps(document).encode()), "application/json", headers)


def error_answer(status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer with the error document of the distribution specification."""
    return json_answer(status, {"errors": [{"code": code, "message": message, "detail": None}]}, headers)
