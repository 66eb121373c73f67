"""The operator's addresses: on loopback by default, and never one that nodes use."""

from pathlib import Path

from proxy.config.load import load_config, parse_config

DEFAULT = Path(__file__).resolve().parents[3] / "config" / "default.yaml"


def test_by_default_it_is_on_loopback_and_not_the_port_of_the_registry_embedded_in_k3s() -> None:
    for admin in (parse_config("version: 1\n", "f").config.admin, load_config(DEFAULT).config.admin):
        assert admin is not None
        assert admin.address == "127.0.0.1:5007"
