"""Faults that change an answer before it is sent; several on one request are applied in order."""

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from proxy.testbed.answer import Answer, BodyContent, Bytes, Headers, body_answer, error_answer, json_answer
from proxy.testbed.record import Call
from proxy.testbed.routes import slice_answer


class Change(ABC):
    """Makes another answer of an answer."""

    @abstractmethod
    def apply(self, call: Call, answer: Answer) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Reply(Change):
    """This answer instead of the registry's own; `document` is sent as JSON, `body` as it is."""

    status: int
    body: bytes | None = None
    headers: Headers | Mapping[str, str] = ()
    document: Any = None
    content_type: str = "application/json"
    reason: str = ""

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        headers = tuple(self.headers.items()) if isinstance(self.headers, Mapping) else self.headers
        if self.document is not None:
            made = json_answer(self.status, self.document)
        elif self.body is not None:
            made = body_answer(self.status, Bytes(self.body), self.content_type)
        else:
            made = error_answer(self.status, "UNKNOWN", f"scripted {self.status}")
        return replace(made.without(*(name for name, _ in headers)), reason=self.reason).plus(headers)


@dataclass(frozen=True, slots=True)
class Challenge(Change):
    """A refusal with these WWW-Authenticate lines, in order."""

    lines: tuple[str, ...]
    status: int = 401

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        headers = tuple(("WWW-Authenticate", line) for line in self.lines)
        return error_answer(self.status, "UNAUTHORIZED", "scripted refusal", headers)


@dataclass(frozen=True, slots=True)
class Redirect(Change):
    """A redirect to a location, or to the one made for the request; HTTP allows any text here, and so do we."""

    to: str | Callable[[Call], str]
    status: int = 307

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        location = self.to if isinstance(self.to, str) else self.to(call)
        return body_answer(self.status, Bytes(b""), "text/html", [("Location", location)])


@dataclass(frozen=True, slots=True)
class SetHeader(Change):
    """This header in place of any of the same name."""

    name: str
    value: str

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        return answer.having((self.name, self.value))


@dataclass(frozen=True, slots=True)
class DropHeader(Change):
    """Without this header; without Content-Length the body goes out in chunks."""

    name: str

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        return answer.without(self.name)


@dataclass(frozen=True, slots=True)
class Body(Change):
    """Another body with its own length; the other headers stay, also the digest."""

    content: bytes | BodyContent

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        content = Bytes(self.content) if isinstance(self.content, bytes) else self.content
        made = replace(answer, content=content, start=0, stop=None)
        return made.having(("Content-Length", str(content.size)))


@dataclass(frozen=True, slots=True)
class FlippedByte:
    """A body with one byte turned over."""

    inner: BodyContent
    at: int

    @property
    def size(self) -> int:
        return self.inner.size

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        for piece in self.inner.pieces(start, stop):
            inside = self.at - start
            if 0 <= inside < len(piece):
                yield piece[:inside] + bytes([piece[inside] ^ 0xFF]) + piece[inside + 1 :]
            else:
                yield piece
            start += len(piece)


@dataclass(frozen=True, slots=True)
class FlipByte(Change):
    """Wrong bytes under a right digest: one byte turned over, at a place in the whole content."""

    where: Literal["first", "middle", "last"] | int = "middle"

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        size = answer.content.size
        places = {"first": 0, "middle": size // 2, "last": size - 1}
        at = self.where if isinstance(self.where, int) else places[self.where]
        return replace(answer, content=FlippedByte(answer.content, at))


@dataclass(frozen=True, slots=True)
class Gzip(Change):
    """The body compressed, with Content-Encoding: gzip."""

    def apply(self, call: Call, answer: Answer) -> Answer:
        packed = Body(gzip.compress(answer.body(), mtime=0)).apply(call, answer)
        return packed.having(("Content-Encoding", "gzip"))


@dataclass(frozen=True, slots=True)
class IgnoreRange(Change):
    """200 with the whole body to a request with Range."""

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        whole = replace(answer, status=200, start=0, stop=None).without("Content-Range")
        return whole.having(("Content-Length", str(answer.content.size)))


@dataclass(frozen=True, slots=True)
class ShiftRange(Change):
    """206 with bytes from further on; the headers say so, or with `lie` name the requested range."""

    by: int = 1
    lie: bool = False

    def apply(self, call: Call, answer: Answer) -> Answer:  # noqa: ARG002 - one shape for all
        if answer.status != 206:
            return answer
        size = answer.content.size
        if self.lie:
            stop = min(answer.end + self.by, size)
            return replace(answer, start=stop - (answer.end - answer.start), stop=stop)
        start = min(answer.start + self.by, size - 1)
        return slice_answer(answer, start, max(start + 1, answer.end))


@dataclass(frozen=True, slots=True)
class TokenFields(Change):
    """A token answer without some fields and with others; what stays is a token that works."""

    drop: tuple[str, ...] = ()
    put: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, call: Call, answer: Answer) -> Answer:
        document = {key: value for key, value in json.loads(answer.body()).items() if key not in self.drop}
        return Body(json.dumps(document | dict(self.put)).encode()).apply(call, answer)
