"""Hosts of URLs."""

import pytest

from proxy.config.address import Origin


@pytest.mark.parametrize("host", ["a", "a.b", "x" * 63 + ".example", "a_b.example", "[::1]", "10.0.0.1"])
def test_what_can_be_requested_is_a_host(host: str) -> None:
    assert Origin.parse(f"https://{host}/path").authority_host == host


@pytest.mark.parametrize("host", ["", "a..b", ".a", "x" * 64 + ".example", "a-", "-a", "a b", "[::g]"])
def test_a_name_that_no_resolver_takes_is_none(host: str) -> None:
    with pytest.raises(ValueError, match=r"has no valid host|contains a space"):
        Origin.parse(f"https://{host}/path")
