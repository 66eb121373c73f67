import contextlib
import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.transport.addresses import AddressRefused, JudgingResolver, Network, is_allowed, literal_address, network_of
from tests.unit.transport.support import Names

pytestmark = pytest.mark.security

PUBLIC, PRIVATE, LOOPBACK, FORBIDDEN = Network.PUBLIC, Network.PRIVATE, Network.LOOPBACK, Network.FORBIDDEN


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("8.8.8.8", PUBLIC),
        ("2606:4700::1111", PUBLIC),
        ("10.1.2.3", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd00::1", PRIVATE),
        ("127.0.0.1", LOOPBACK),
        ("127.8.9.10", LOOPBACK),
        ("::1", LOOPBACK),
        ("0.0.0.0", FORBIDDEN),
        ("::", FORBIDDEN),
        ("169.254.1.1", FORBIDDEN),
        ("169.254.169.254", FORBIDDEN),
        ("fd00:ec2::254", FORBIDDEN),
        ("fd20:ce::254", FORBIDDEN),
        ("100.100.100.200", FORBIDDEN),
        ("168.63.129.16", FORBIDDEN),
        ("192.0.0.192", FORBIDDEN),
        ("fe80::1", FORBIDDEN),
        ("fe80::1%eth0", FORBIDDEN),
        ("fec0::1", FORBIDDEN),
        ("224.0.0.1", FORBIDDEN),
        ("ff02::1", FORBIDDEN),
        ("240.0.0.1", FORBIDDEN),
        ("255.255.255.255", FORBIDDEN),
    ],
)
def test_addresses_belong_to_networks(address: str, network: Network) -> None:
    assert network_of(address) is network


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "8.8.8.8", "0.0.0.0"])
@pytest.mark.parametrize("form", ["::ffff:{0}", "64:ff9b::{0}", "2002:{1}::"])
def test_an_ipv4_address_inside_an_ipv6_one_counts_as_itself(inside: str, form: str) -> None:
    whole = socket.inet_aton(inside).hex()
    address = form.format(inside, f"{whole[:4]}:{whole[4:]}")
    assert network_of(address) is network_of(inside)


@given(st.ip_addresses())
def test_every_address_belongs_somewhere(address: object) -> None:
    assert network_of(str(address)) in Network


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:7f00:1"),
        ("registry.example", None),
        ("1.2.3.4.example", None),
        ("", None),
    ],
)
def test_an_address_is_known_in_every_spelling(host: str, address: str | None) -> None:
    found = literal_address(host)
    assert (found and ip_address(found)) == (address and ip_address(address))  # Python 3.13 spells them differently


@pytest.mark.parametrize(
    ("found", "upstream", "allowed"),
    [
        (PUBLIC, {PUBLIC}, True),
        (PUBLIC, {PRIVATE}, True),
        (PUBLIC, set(), True),
        (PRIVATE, {PUBLIC}, False),
        (PRIVATE, {PRIVATE}, True),
        (PRIVATE, {LOOPBACK}, True),
        (PRIVATE, {PUBLIC, PRIVATE}, True),
        (LOOPBACK, {PUBLIC}, False),
        (LOOPBACK, {PRIVATE}, False),
        (LOOPBACK, {LOOPBACK}, True),
        (FORBIDDEN, {FORBIDDEN}, False),
        (FORBIDDEN, set(Network), False),
    ],
)
def test_an_upstream_may_send_us_to_its_own_kind_of_network(
    found: Network, upstream: set[Network], allowed: bool
) -> None:
    assert is_allowed(found, frozenset(upstream)) is allowed


def resolver(*answers: list[str], upstream: Network = PUBLIC) -> JudgingResolver:
    return JudgingResolver(frozenset({upstream}), Names(*answers))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
async def test_a_name_with_an_inner_address_is_refused(address: str) -> None:
    for answer in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        judging = resolver(answer)
        with pytest.raises(AddressRefused, match=r"cdn\.example is on a .* network"):
            await judging.resolve("cdn.example", 443)
        await judging.close()


async def test_every_look_up_is_judged_anew() -> None:
    judging = resolver(["8.8.8.8"], ["127.0.0.1"])
    assert [result["host"] for result in await judging.resolve("cdn.example", 443)] == ["8.8.8.8"]
    with pytest.raises(AddressRefused):  # the name was rebound
        await judging.resolve("cdn.example", 443)


async def test_an_upstream_on_a_private_network_may_name_another() -> None:
    judging = resolver(["10.0.0.1"], upstream=PRIVATE)
    (result,) = await judging.resolve("minio.internal", 9000)
    assert (result["host"], result["port"]) == ("10.0.0.1", 9000)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20))
def test_no_host_raises(host: str) -> None:
    address = literal_address(host)
    with contextlib.suppress(ValueError):  # glibc also takes what stands behind a space; no URL has one
        assert address is None or network_of(address) in Network
