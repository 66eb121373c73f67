"""A change of what running proxies do not reload replaces the pods; any other change does not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config.model import Config
from scripts.reference.restart import marked
from scripts.reference.settings import default_of
from tests.chart.helm import rendered
from tests.fakes.restart import RELOAD, RESTART, changed

BASE: dict[str, Any] = {
    "mode": "both",
    "central": {"clients": {"auth": "none", "allowAnonymous": True}},
    "secrets": {"users": {"secretName": "users"}},
    "config": {"tracing": {"endpoint": "http://127.0.0.1:4318/v1/traces"}, "registries": {"docker.io": {}}},
}
BY_CHART = {"admin.", "listeners[]."}
"""What the chart sets itself."""
VALUES: list[tuple[str, Any]] = [
    ("node.port", 5005),
    ("node.adminPort", 5006),
    ("central.port", 5005),
    ("central.adminPort", 5006),
]


def written(name: str) -> bool:
    return not any(name.startswith(prefix) for prefix in BY_CHART) and name not in {"cache.path", "cache.maxSize"}


def templates(directory: Path, values: Any) -> dict[str, Any]:
    """The pod templates of a release."""
    file = directory / f"{len(list(directory.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump(values))
    release = rendered(file)
    kinds = [kind for kind in ("DaemonSet", "StatefulSet") if release.of(kind)]
    return {kind: release.one(kind)["spec"]["template"] for kind in kinds}


def hashes(directory: Path, values: Any) -> dict[str, str]:
    """The hashes of what running proxies do not reload."""
    made = templates(directory, values)
    return {kind: made[kind]["metadata"]["annotations"]["scope-proxy/restart-settings"] for kind in made}


@pytest.mark.parametrize("name", [name for name in RESTART if written(name)])
def test_a_marked_setting_replaces_all_pods(name: str, tmp_path: Path) -> None:
    before = hashes(tmp_path, BASE)
    after = hashes(tmp_path, changed(f"config.{name}", RESTART[name], BASE))
    assert set(before) == {"DaemonSet", "StatefulSet"}
    assert [kind for kind in before if before[kind] == after[kind]] == []


@pytest.mark.parametrize("name", [name for name in RELOAD if written(name)])
def test_any_other_setting_replaces_none(name: str, tmp_path: Path) -> None:
    assert templates(tmp_path, BASE) == templates(tmp_path, changed(f"config.{name}", RELOAD[name], BASE))


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_an_address_replaces_the_pods_that_listen_there(name: str, value: Any, tmp_path: Path) -> None:
    before, after = hashes(tmp_path, BASE), hashes(tmp_path, changed(name, value, BASE))
    assert [kind for kind in before if before[kind] != after[kind]] == [
        "DaemonSet" if name.startswith("node.") else "StatefulSet"
    ]


CENTRAL: dict[str, Any] = {
    **BASE,
    "mode": "central",
    "tls": {"enabled": True, "existingSecret": "tls"},
}
WITH_CA = changed("tls.clientCA.existingSecret", "ca", CENTRAL)
USERS = "/etc/scope-proxy/secrets/users/htpasswd"


def clients(base: dict[str, Any], auth: str | list[str]) -> dict[str, Any]:
    """Values with clients that show who they are."""
    settings = {"auth": auth, **({"htpasswdFile": USERS} if "basic" in auth else {})}
    return changed("central.clients", settings, base)


@pytest.mark.parametrize(
    ("before", "after", "replaced"),
    [
        (changed("tls.enabled", False, CENTRAL), CENTRAL, True),
        (CENTRAL, clients(CENTRAL, "basic"), False),
        (clients(CENTRAL, "basic"), clients(WITH_CA, "certificate"), True),
        (clients(WITH_CA, "certificate"), clients(WITH_CA, ["certificate", "basic"]), True),
        (clients(WITH_CA, "certificate"), clients(WITH_CA, ["certificate"]), False),
        (clients(WITH_CA, ["basic", "certificate"]), clients(WITH_CA, ["certificate", "basic"]), False),
    ],
)
def test_tls_and_the_need_of_a_certificate_replace_central_pods(
    before: Any, after: Any, replaced: bool, tmp_path: Path
) -> None:
    assert (hashes(tmp_path, before) != hashes(tmp_path, after)) is replaced


def test_a_default_that_is_written_replaces_none(tmp_path: Path) -> None:
    values = BASE
    for keys, field, _ in marked(Config):
        if keys[0] != "admin" and not field.is_required():
            values = changed(".".join(("config", *keys)), default_of(field), values)
    assert values != BASE
    assert hashes(tmp_path, values) == hashes(tmp_path, BASE)
