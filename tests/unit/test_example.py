"""The example of CONTRIBUTING.md: a test of one module, `proxy/oci/byterange.py`."""

import pytest

from proxy.oci.byterange import ByteRange


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=5-9", ByteRange(5, 9)), ("bytes=5-", ByteRange(5)), ("bytes=9-5", None), ("lines=5-9", None)],
)
def test_a_range_header_is_parsed(header: str, expected: ByteRange | None) -> None:
    assert ByteRange.parse(header) == expected
