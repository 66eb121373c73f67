import json

from prometheus_client import REGISTRY

from proxy.config.load import parse_config
from proxy.config.model import Config
from proxy.metrics import UPSTREAM_UP
from proxy.runtime.series import prepare_series
from tests.fakes.proxy import metric

UP = "scope_proxy_upstream_up"


def config(*registries: str) -> Config:
    rules = [{"pattern": f"^{'x' * 200}(.+)$", "replacement": "y/$1"}]
    own = {"endpoints": [{"url": "https://e.example", "rewrites": rules}]}
    text = json.dumps({"version": 1, "registries": dict.fromkeys(registries, own)})
    return parse_config(text, "test.yaml").config


def test_an_upstream_that_is_configured_no_more_is_not_down() -> None:
    prepare_series(config("stays.example", "goes.example"))
    for name in ("stays.example", "goes.example"):
        UPSTREAM_UP.labels(name).set(0)
    prepare_series(config("stays.example"))
    assert metric(UP, upstream="goes.example") == 1


def test_rules_of_endpoints_have_series_with_their_patterns_in_short() -> None:
    prepare_series(config("ruled.example"))
    labels = {"upstream": "ruled.example", "rule": f"^{'x' * 119}"}
    assert REGISTRY.get_sample_value("scope_proxy_rewrites_total", labels) == 0


def test_the_configuration_counts_as_loaded() -> None:
    prepare_series(config())
    assert metric("scope_proxy_config_last_reload_successful") == 1
    assert metric("scope_proxy_config_last_reload_success_timestamp_seconds") > 0
    assert REGISTRY.get_sample_value("scope_proxy_config_reloads_total", {"result": "failed"}) is not None
