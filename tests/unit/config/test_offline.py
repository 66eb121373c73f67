import pytest

from proxy.config.load import ConfigError, parse_config

TEXT = """version: 1
listeners:
  - address: 127.0.0.1:5000
    clients: {{auth: {auth}}}
registries: {{docker.io: {{}}}}
cache: {{path: /var/cache/x, offline: {offline}}}
"""


def test_offline_with_clients_that_only_the_upstream_can_judge_is_an_error() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(TEXT.format(auth="upstream", offline="true"), "f")
    assert str(refused.value) == (
        "f:4:21: auth: upstream has the registry prove what a client may pull, and cache.offline sends it no request: "
        "use basic or certificate with access rules, or remove cache.offline"
    )


@pytest.mark.parametrize(("auth", "offline"), [("none", "true"), ("upstream", "false")])
def test_either_of_them_alone_is_none(auth: str, offline: str) -> None:
    cache = parse_config(TEXT.format(auth=auth, offline=offline), "f").config.cache
    assert cache is not None
    assert cache.offline is (offline == "true")
