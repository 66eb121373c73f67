"""The configuration that the chart writes is one that the program takes, with the files that the chart mounts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme
from click.testing import CliRunner

from proxy.cli.main import main
from proxy.config.load import parse_config
from proxy.config.model import Config
from tests.chart.helm import VALUES, Rendered, rendered

every_file = pytest.mark.parametrize("values", [None, *VALUES], ids=lambda path: path.stem if path else "defaults")
ETC = "/etc/scope-proxy"


def pod_of(release: Rendered, name: str) -> dict[str, Any]:
    """The pods that read a configuration."""
    kind = "DaemonSet" if name.endswith("-node") else "StatefulSet"
    specification: dict[str, Any] = release.one(kind, name)["spec"]["template"]["spec"]
    return specification


def mounts(pod: dict[str, Any]) -> set[str]:
    """Where the first container of a pod finds files."""
    return {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}


def named_files(text: str) -> set[Path]:
    """The files below /etc/scope-proxy that a configuration names."""
    return {Path(found) for found in re.findall(rf"{ETC}/[\w./-]+", text)}


def make_files(text: str, root: Path) -> str:
    """Make what the configuration names below a directory; the configuration with that directory in it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("proxy.example.com")
    contents = {
        "tls.crt": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        "tls.key": certificate.private_key_pem.bytes(),
        "ca.crt": authority.cert_pem.bytes(),
        "config.json": json.dumps({"auths": {}}).encode(),
        "htpasswd": b"nodes:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n",
        "password": b"secret",
    }
    for file in named_files(text):
        made = root / file.relative_to(ETC)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(contents[file.name])
    return text.replace(ETC, str(root))


def configurations(values: Path | None) -> Iterator[tuple[str, str, Config]]:
    """Name, text and meaning of every configuration."""
    for name, text in rendered(values).configurations().items():
        yield name, text, parse_config(text, name).config


@every_file
def test_the_program_takes_it(values: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOGIN", "secret")
    for number, (_, text, _) in enumerate(configurations(values)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(make_files(text, tmp_path / str(number)))
        result = CliRunner().invoke(main, ["check", "--config", str(file)])
        assert result.exit_code == 0, result.output


@every_file
def test_every_file_that_it_names_is_mounted(values: Path | None) -> None:
    for name, text, config in configurations(values):
        mounted = mounts(pod_of(rendered(values), name))
        missing = [file for file in named_files(text) if not any(file.is_relative_to(mount) for mount in mounted)]
        assert missing == []
        # A volume belongs to root and may be open to others: what is made below it is for the proxy alone.
        assert config.cache is None or str(Path(config.cache.path).parent) in mounted


@every_file
def test_ports_are_those_of_the_pod(values: Path | None) -> None:
    for name, _, config in configurations(values):
        ports = {
            port["name"]: port["containerPort"] for port in pod_of(rendered(values), name)["containers"][0]["ports"]
        }
        assert config.admin is not None
        addresses = {"registry": config.listeners[0].address, "admin": config.admin.address}
        for argument in pod_of(rendered(values), name)["containers"][0]["args"]:
            if argument.startswith("--metrics="):
                addresses["metrics"] = argument
        assert {kind: int(address.rpartition(":")[2]) for kind, address in addresses.items()} == ports


@every_file
def test_nodes_in_the_hosts_network_listen_on_loopback_alone(values: Path | None) -> None:
    seen = 0
    for name, _, config in configurations(values):
        if pod_of(rendered(values), name).get("hostNetwork"):
            assert [listener.address.rpartition(":")[0] for listener in config.listeners] == ["127.0.0.1"]
        elif name.endswith("-node"):
            policy = rendered(values).one("NetworkPolicy", name)
            assert all(rule["ports"] == [{"port": "metrics", "protocol": "TCP"}] for rule in policy["spec"]["ingress"])
        seen += 1
    assert seen


def test_rewrites_keep_their_order() -> None:
    [config] = [config for _, _, config in configurations(VALUES[0])]
    assert [rule.replacement for rule in config.registries["cp.icr.io"].rewrites] == [
        "a-special-place/$1",
        "se-next-gen-docker-local/$1",
    ]


@every_file
def test_a_stop_has_longer_than_the_program_takes(values: Path | None) -> None:
    for name, _, config in configurations(values):
        grace = pod_of(rendered(values), name)["terminationGracePeriodSeconds"]
        assert grace > config.timeouts.shutdown_grace
