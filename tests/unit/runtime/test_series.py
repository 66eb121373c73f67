import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from proxy.config.load import parse_config
from proxy.config.model import Config
from proxy.observe.metrics import (
    CONFIG_SUCCESSFUL,
    DIRECTORY_VARIABLE,
    REWRITES,
    TLS_NOT_AFTER,
    UPSTREAM_BYTES,
    UPSTREAM_RETRIES,
    UPSTREAM_UP,
    Bound,
)
from proxy.runtime.series import note_config_success, prepare_series
from tests.fakes.proxy import metric

UP = "scope_proxy_upstream_up"
NOT_AFTER = "scope_proxy_tls_certificate_not_after_timestamp_seconds"
RATE_LIMIT_RESET = "scope_proxy_upstream_rate_limit_reset_timestamp_seconds"
TLS = {"certFile": "/tls.crt", "keyFile": "/tls.key"}


def config(*registries: str, pattern: str = f"^{'x' * 200}(.+)$", **more: Any) -> Config:
    rules = [{"pattern": pattern, "replacement": "y/$1"}]
    own = {"endpoints": [{"url": "https://e.example", "rewrites": rules}]}
    text = json.dumps({"version": 1, "registries": dict.fromkeys(registries, own), **more})
    return parse_config(text, "test.yaml").config


def series() -> set[tuple[str, tuple[str, ...]]]:
    return {
        (sample.name, tuple(sample.labels.values()))
        for family in REGISTRY.collect()
        if family.name.startswith("scope_proxy_")
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    prepare_series(config())


def test_an_upstream_that_is_configured_no_more_has_no_series() -> None:
    prepare_series(config("stays.example", "goes.example"))
    UPSTREAM_BYTES.labels("stays.example").inc(7)
    prepare_series(config("stays.example"))
    assert not [labels for _, labels in series() if "goes.example" in labels]
    assert metric("scope_proxy_upstream_bytes_total", upstream="stays.example") == 7


def test_fifty_reloads_with_other_names_do_not_add_up() -> None:
    counts = set()
    for number in range(50):
        prepare_series(config(f"r{number}.example", pattern=f"^p{number}/(.+)$"))
        counts.add(len(series()))
    assert len(counts) == 1


def test_a_rule_that_is_removed_has_no_series_and_its_upstream_keeps_its_own() -> None:
    prepare_series(config("ruled.example", pattern="^old/(.+)$"))
    UPSTREAM_RETRIES.labels("ruled.example").inc()
    prepare_series(config("ruled.example", pattern="^new/(.+)$"))
    assert [labels for name, labels in series() if name == "scope_proxy_rewrites_total"] == [
        ("ruled.example", "^new/(.+)$")
    ]
    assert metric("scope_proxy_upstream_retries_total", upstream="ruled.example") == 1


def test_what_comes_back_is_counted_in_a_series_that_is_displayed() -> None:
    bound = Bound(REWRITES)
    prepare_series(config("back.example", pattern="^a/(.+)$"))
    bound["back.example", "^a/(.+)$"].inc(5)
    prepare_series(config())
    prepare_series(config("back.example", pattern="^a/(.+)$"))
    bound["back.example", "^a/(.+)$"].inc()
    assert metric("scope_proxy_rewrites_total", upstream="back.example", rule="^a/(.+)$") == 1


def test_an_upstream_that_is_down_stays_down_in_a_reload() -> None:
    prepare_series(config("down.example"))
    assert metric(UP, upstream="down.example") == 1
    UPSTREAM_UP.labels("down.example").set(0)
    prepare_series(config("down.example", "new.example"))
    assert (metric(UP, upstream="down.example"), metric(UP, upstream="new.example")) == (0, 1)


def test_a_client_certificate_that_is_no_longer_sent_has_no_end() -> None:
    names = ("listeners[0].tls", "hosts.stays.example.tls", "hosts.goes.example.tls")
    for name in names:
        TLS_NOT_AFTER.labels(name).set(1.0)
    prepare_series(config(hosts={"stays.example": {"tls": TLS}, "goes.example": {"tls": {}}}))
    assert [REGISTRY.get_sample_value(NOT_AFTER, {"name": name}) for name in names] == [1.0, 1.0, None]
    TLS_NOT_AFTER.remove("listeners[0].tls")


def test_of_several_workers_what_cannot_be_removed_raises_no_alert(tmp_path_factory: pytest.TempPathFactory) -> None:
    script = """
        import json
        from proxy.config.load import parse_config
        from proxy.observe.metrics import TLS_NOT_AFTER, UPSTREAM_RATE_LIMIT_RESET, UPSTREAM_UP, render
        from proxy.runtime.series import prepare_series
        def config(*names):
            return parse_config(json.dumps({"version": 1, "registries": {name: {} for name in names}}), "f").config
        prepare_series(config("goes.example"))
        UPSTREAM_UP.labels("goes.example").set(0)
        TLS_NOT_AFTER.labels("hosts.goes.example.tls").set(1)
        UPSTREAM_RATE_LIMIT_RESET.labels("goes.example", "robot").set(7)
        UPSTREAM_RATE_LIMIT_RESET.labels("stays.example", "robot").set(8)
        prepare_series(config("stays.example"), {("stays.example", "robot"), ("goes.example", "robot")})
        print(render()[0].decode())
    """
    environment = {**os.environ, DIRECTORY_VARIABLE: str(tmp_path_factory.mktemp("shared"))}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f'{UP}{{upstream="goes.example"}} 1.0' in ran.stdout
    assert f'{NOT_AFTER}{{name="hosts.goes.example.tls"}} +Inf' in ran.stdout
    assert f'{RATE_LIMIT_RESET}{{credential="robot",upstream="goes.example"}} 0.0' in ran.stdout
    assert f'{RATE_LIMIT_RESET}{{credential="robot",upstream="stays.example"}} 8.0' in ran.stdout


def test_rules_of_endpoints_have_series_with_their_patterns_in_short() -> None:
    prepare_series(config("ruled.example"))
    labels = {"upstream": "ruled.example", "rule": f"^{'x' * 119}"}
    assert REGISTRY.get_sample_value("scope_proxy_rewrites_total", labels) == 0


def test_only_a_load_that_went_well_counts_as_one() -> None:
    CONFIG_SUCCESSFUL.set(0)
    prepare_series(config())
    assert metric("scope_proxy_config_last_reload_successful") == 0
    note_config_success()
    assert metric("scope_proxy_config_last_reload_successful") == 1
    assert metric("scope_proxy_config_last_reload_success_timestamp_seconds") > 0
    assert REGISTRY.get_sample_value("scope_proxy_config_reloads_total", {"result": "failed"}) is not None
