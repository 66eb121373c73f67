"""The operator's addresses: on loopback by default, and never one that nodes use."""

from pathlib import Path

import pytest

from proxy.config.errors import ConfigError
from proxy.config.load import Addresses, load_config, parse_config, with_addresses
from proxy.config.model import Admin

DEFAULT = Path(__file__).resolve().parents[3] / "config" / "default.yaml"


def admin_of(text: str, given: Addresses | None = None) -> Admin:
    admin = with_addresses(parse_config(f"version: 1\n{text}", "f"), given or Addresses()).config.admin
    assert admin is not None
    return admin


def test_by_default_it_is_on_loopback_and_not_the_port_of_the_registry_embedded_in_k3s() -> None:
    for admin in (parse_config("version: 1\n", "f").config.admin, load_config(DEFAULT).config.admin):
        assert admin is not None
        assert admin.address == "127.0.0.1:5007"


def test_metrics_have_no_second_address_by_default() -> None:
    assert admin_of("").metrics_address is None


@pytest.mark.parametrize("address", ["10.0.0.7:5008", ":5008", "[fd00::7]:5008", "[10.0.0.7]:5008"])
def test_metrics_may_have_a_second_address(address: str) -> None:
    admin = admin_of(f"admin: {{metricsAddress: '{address}'}}\n")
    assert (admin.address, admin.metrics_address) == ("127.0.0.1:5007", address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:5007", "f:2:25: 127.0.0.1:5007 is already used by admin.address: use another port"),
        (":5007", "f:2:25: :5007 is already used by admin.address: use another port"),
        ("0.0.0.0:5000", "f:2:25: 0.0.0.0:5000 is already used by listeners[0].address: use another port"),
        ("[10.0.0.7]:5000", ""),
        ("127.0.0.1:5008", ""),
        ("5008", "f:2:25: an address to listen on is host:port, such as 127.0.0.1:5000 or [::1]:5000"),
    ],
)
def test_the_second_address_is_its_own(address: str, message: str) -> None:
    try:
        admin_of(f"admin: {{metricsAddress: '{address}'}}\n")
        reported = ""
    except ConfigError as error:
        reported = "; ".join(str(problem) for problem in error.problems)
    assert reported == message


def test_an_address_of_the_command_line_keeps_the_other_one() -> None:
    text = "admin: {address: 127.0.0.1:1, metricsAddress: 127.0.0.1:2}\n"
    for given, expected in (
        (Addresses(admin="127.0.0.1:3"), ("127.0.0.1:3", "127.0.0.1:2")),
        (Addresses(metrics="127.0.0.1:3"), ("127.0.0.1:1", "127.0.0.1:3")),
        (Addresses(), ("127.0.0.1:1", "127.0.0.1:2")),
    ):
        admin = admin_of(text, given)
        assert (admin.address, admin.metrics_address) == expected


def test_an_address_of_the_command_line_is_judged_as_well() -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:5000 is already used by listeners\[0\]\.address"):
        admin_of("", Addresses(metrics="127.0.0.1:5000"))
    for text in ("5008", ""):
        with pytest.raises(ValueError, match="host:port"):
            admin_of("", Addresses(metrics=text))


def test_a_second_address_alone_is_none_for_the_operator() -> None:
    with pytest.raises(ValueError, match="admin, which is null in the configuration: use --admin as well"):
        admin_of("admin: null\n", Addresses(metrics="127.0.0.1:5008"))
    admin = admin_of("admin: null\n", Addresses(admin="127.0.0.1:5007", metrics="127.0.0.1:5008"))
    assert (admin.address, admin.metrics_address) == ("127.0.0.1:5007", "127.0.0.1:5008")
