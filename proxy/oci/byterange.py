"""Byte ranges (RFC 9110, section 14); only single ranges, which is what registry clients send."""

import re
from dataclasses import dataclass
from typing import Self

from proxy.oci.errors import RangeInvalid

_RANGE = re.compile(r"bytes=[ \t]*(?:(?P<first>\d{1,19})-(?P<last>\d{1,19})?|-(?P<suffix>\d{1,19}))[ \t]*", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?P<first>\d{1,19})-(?P<last>\d{1,19})/(?P<size>\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A requested range: from `first` to `last` (or the end), or the last `suffix` bytes."""

    first: int | None
    last: int | None = None
    suffix: int | None = None

    @classmethod
    def parse(cls, header: str | None) -> Self | None:
        """Parse a Range header; None (send the whole blob) if it is missing, malformed or has several ranges."""
        match = _RANGE.fullmatch(header or "")
        if match is None:
            return None
        if match["suffix"] is not None:
            return cls(None, suffix=int(match["suffix"]))
        first, last = int(match["first"]), int(match["last"]) if match["last"] else None
        return None if last is not None and last < first else cls(first, last)

    def resolve(self, size: int) -> "Span":
        """The matching bytes of a blob of `size` bytes; raises RangeInvalid if there are none."""
        if self.suffix is not None:
            first, last = max(size - self.suffix, 0), size - 1
        else:
            first = self.first or 0
            last = size - 1 if self.last is None else min(self.last, size - 1)
        if first >= size or last < first:
            raise RangeInvalid(f"the range is outside the blob of {size} bytes", size=size)
        return Span(first, last, size)

    def __str__(self) -> str:
        """The value of a Range header."""
        if self.suffix is not None:
            return f"bytes=-{self.suffix}"
        return f"bytes={self.first}-{'' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, of `size` (None: not reported by the server)."""

    first: int
    last: int
    size: int | None

    @classmethod
    def parse(cls, header: str | None) -> Self | None:
        """Parse a Content-Range header; None if it is missing, malformed or inconsistent."""
        match = _CONTENT_RANGE.fullmatch(header or "")
        if match is None:
            return None
        size = None if match["size"] == "*" else int(match["size"])
        span = cls(int(match["first"]), int(match["last"]), size)
        consistent = span.first <= span.last and (size is None or span.last < size)
        return span if consistent else None

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """The value of a Content-Range header."""
        return f"bytes {self.first}-{self.last}/{'*' if self.size is None else self.size}"
