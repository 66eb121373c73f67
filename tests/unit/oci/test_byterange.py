import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.byterange import ByteRange, Span
from proxy.oci.errors import RangeInvalid

SIZES = st.integers(min_value=0, max_value=10**18)


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=0-", 0, 99),
        ("bytes=40-1000", 40, 99),
        ("bytes=-1", 99, 99),
        ("bytes=-1000", 0, 99),
        ("bytes= 7-8", 7, 8),
    ],
)
def test_a_range_means_these_bytes_of_a_hundred(header: str, first: int, last: int) -> None:
    byte_range = ByteRange.parse(header)
    assert byte_range is not None
    span = byte_range.resolve(100)
    assert (span.first, span.last, span.length) == (first, last, last - first + 1)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=a-b",
        "bytes=٣-٤",
        "bytes=--1",
        f"bytes=0-{'9' * 20}",
        "bytes=0-1\n",
    ],
)
def test_what_is_no_single_range_is_ignored(header: str | None) -> None:
    assert ByteRange.parse(header) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_outside_the_blob_is_an_error_that_tells_its_size(header: str, size: int) -> None:
    byte_range = ByteRange.parse(header)
    assert byte_range is not None
    with pytest.raises(RangeInvalid) as caught:
        byte_range.resolve(size)
    assert caught.value.size == size


@given(first=SIZES, length=SIZES | st.none(), suffix=st.none() | SIZES)
def test_a_range_survives_its_header(first: int, length: int | None, suffix: int | None) -> None:
    last = None if length is None else first + length
    byte_range = ByteRange(first, last) if suffix is None else ByteRange(None, suffix=suffix)
    assert ByteRange.parse(str(byte_range)) == byte_range


@given(first=SIZES, length=st.integers(1, 10**6), rest=SIZES | st.none())
def test_a_span_survives_its_header(first: int, length: int, rest: int | None) -> None:
    span = Span(first, first + length - 1, None if rest is None else first + length + rest)
    assert Span.parse(str(span)) == span
    assert span.length == length


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes */100", "bytes 5-4/100", "bytes 0-100/100", "bytes 0-1", "items 0-1/2", f"bytes 0-{'9' * 20}/*"],
)
def test_a_content_range_that_contradicts_itself_is_none(header: str | None) -> None:
    assert Span.parse(header) is None


@given(st.text(max_size=30) | st.from_regex(r"bytes[ =][0-9-]{0,25}(/[0-9*]{0,25})?"), SIZES)
def test_no_header_raises_anything_but_range_invalid(header: str, size: int) -> None:
    byte_range, span = ByteRange.parse(header), Span.parse(header)
    assert span is None or 0 <= span.first <= span.last
    if byte_range is None:
        return
    with contextlib.suppress(RangeInvalid):
        found = byte_range.resolve(size)
        assert 0 <= found.first <= found.last < size
