"""Byte ranges (RFC 9110, section 14): one range, as clients of registries use them."""

import re
from dataclasses import dataclass
from typing import Self

from proxy.oci.errors import RangeInvalid

_RANGE = re.compile(r"bytes=[ \t]*(?:(?P<first>\d{1,19})-(?P<last>\d{1,19})?|-(?P<suffix>\d{1,19}))[ \t]*", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?P<first>\d{1,19})-(?P<last>\d{1,19})/(?P<size>\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range as asked for: from `first` to `last` (or the end), or the last `suffix` bytes."""

    first: int | None
    last: int | None = None
    suffix: int | None = None

    @classmethod
    def parse(cls, header: str | None) -> Self | None:
        """Read a Range header; None for none, for several ranges and for what is malformed (then all is sent)."""
        match = _RANGE.fullmatch(header or "")
        if match is None:
            return None
        if match["suffix"] is not None:
            return cls(None, suffix=int(match["suffix"]))
        first, last = int(match["first"]), int(match["last"]) if match["last"] else None
        return None if last is not None and last < first else cls(first, last)

    def resolve(self, size: int) -> "Span":
        """The bytes meant in a blob of `size` bytes; raises RangeInvalid where there are none."""
        if self.suffix is not None:
            first, last = max(size - self.suffix, 0), size - 1
        else:
            first = self.first or 0
            last = size - 1 if self.last is None else min(self.last, size - 1)
        if first >= size or last < first:
            raise RangeInvalid(f"the range lies outside the blob of {size} bytes", size=size)
        return Span(first, last, size)

    def __str__(self) -> str:
        """The value of a Range header."""
        if self.suffix is not None:
            return f"bytes=-{self.suffix}"
        return f"bytes={self.first}-{'' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, of `size` (None: the server does not say)."""

    first: int
    last: int
    size: int | None

    @classmethod
    def parse(cls, header: str | None) -> Self | None:
        """Read a Content-Range header; None for what is malformed or says nothing."""
        match = _CONTENT_RANGE.fullmatch(header or "")
        if match is None:
            return None
        size = None if match["size"] == "*" else int(match["size"])
        span = cls(int(match["first"]), int(match["last"]), size)
        consistent = span.first <= span.last and (size is None or span.last < size)
        return span if consistent else None

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """The value of a Content-Range header."""
        return f"bytes {self.first}-{self.last}/{'*' if self.size is None else self.size}"
