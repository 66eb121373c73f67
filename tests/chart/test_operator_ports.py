"""The status page stays on loopback; metrics and health leave a node for a monitor alone, on a port of their own."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import parse_config
from tests.chart.helm import USUAL, VALUES, Rendered, parsed, rendered, template, values_of
from tests.crash.program import fetch
from tests.real.processes import Process, answers, free_port, scratch
from tests.real.proxy_process import PROJECT_ROOT

every_file = pytest.mark.parametrize("values", [None, *VALUES], ids=lambda path: path.stem if path else "defaults")
OWN = "[$(HOST_IP)]:5008"
HOST_IP = "127.0.0.2"
"""Another address of this machine than 127.0.0.1 (Linux has all of 127.0.0.0/8): it stands for the node's own."""


def servers(release: Rendered) -> list[dict[str, Any]]:
    """The pods that serve."""
    found = [*release.of("DaemonSet", "-node"), *release.of("StatefulSet")]
    return [item["spec"]["template"]["spec"] for item in found]


def ports(pod: dict[str, Any]) -> dict[str, int]:
    """The ports of a pod's container, by name."""
    return {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}


def metrics_of(pod: dict[str, Any]) -> list[str]:
    """Where a pod serves metrics without the status page."""
    return [part.removeprefix("--metrics=") for part in pod["containers"][0]["args"] if part.startswith("--metrics=")]


def admin_port(configuration: str, name: str) -> int:
    """Where a configuration has the status page."""
    admin = parse_config(configuration, name).config.admin
    assert admin is not None
    return int(admin.address.rpartition(":")[2])


def port_numbers(part: Any) -> Iterator[int]:
    """Every port number below a part of an object, whatever its field is called: `port`, `targetPort`, `nodePort`."""
    if isinstance(part, list):
        for item in part:
            yield from port_numbers(item)
    if isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, int) and key.lower().endswith("port"):
                yield value
            yield from port_numbers(value)


@every_file
def test_the_status_page_is_on_loopback(values: Path | None) -> None:
    seen = 0
    for name, text in rendered(values).configurations().items():
        admin = parse_config(text, name).config.admin
        assert admin is not None
        assert (admin.address.rpartition(":")[0], admin.metrics_address) == ("127.0.0.1", None)
        seen += 1
    assert seen


@every_file
def test_metrics_leave_a_node_for_a_monitor_alone(values: Path | None) -> None:
    chosen = values_of(values)
    monitors = chosen.get("metrics", {})
    is_monitored = any(monitors.get(kind, {}).get("enabled") for kind in ("serviceMonitor", "podMonitor"))
    for pod in servers(rendered(values)):
        if not pod.get("hostNetwork"):
            assert metrics_of(pod) == [":5008"]  # of the pod, where the kubelet asks
        elif address := chosen.get("node", {}).get("metricsAddress"):
            assert metrics_of(pod) == [f"[{address}]:5008"]
        else:
            assert metrics_of(pod) == ([OWN] if is_monitored else [])
            assert ("metrics" in ports(pod)) == is_monitored


def test_a_pod_learns_the_address_of_its_node() -> None:
    for more in ("metrics.podMonitor.enabled=true", "node.metricsAddress=$(HOST_IP)"):
        [pod] = servers(parsed(template(None, USUAL, "--set", more).checked()))
        assert metrics_of(pod) == [OWN]
        [variable] = [item for item in pod["containers"][0]["env"] if item["name"] == "HOST_IP"]
        assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


@every_file
def test_the_kubelet_asks_where_it_reaches_the_proxy(values: Path | None) -> None:
    seen = 0
    for pod in servers(rendered(values)):
        expected = {"port": "admin", "host": "127.0.0.1"} if pod.get("hostNetwork") else {"port": "metrics"}
        for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
            assert pod["containers"][0][probe]["httpGet"] == {"path": path, **expected}
        assert expected["port"] in ports(pod)
        seen += 1
    assert seen


@every_file
def test_nothing_in_the_cluster_leads_to_the_status_page(values: Path | None) -> None:
    """Services, monitors and policies know the port of metrics, which every pod that they lead to has."""
    release = rendered(values)
    admin_ports = {number for pod in servers(release) for name, number in ports(pod).items() if name == "admin"}
    admin_ports |= {admin_port(text, name) for name, text in release.configurations().items()}
    assert admin_ports
    kinds = ("Service", "ServiceMonitor", "PodMonitor", "NetworkPolicy")
    objects = [item for kind in kinds for item in release.of(kind)]
    assert [item["metadata"]["name"] for item in objects if "admin" in json.dumps(item["spec"])] == []
    numbers = {item["metadata"]["name"]: set(port_numbers(item["spec"])) for item in objects}
    assert {name: found & admin_ports for name, found in numbers.items() if found & admin_ports} == {}
    monitors = [*release.of("ServiceMonitor"), *release.of("PodMonitor")]
    for monitor in monitors:
        [endpoint] = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == "metrics"
    for service in release.of("Service", "-metrics"):
        [port] = service["spec"]["ports"]
        assert (port["name"], port["targetPort"]) == ("metrics", "metrics")
    if monitors:
        assert all("metrics" in ports(pod) for pod in servers(release))


@pytest.mark.slow
async def test_a_node_shows_prometheus_its_metrics_and_nobody_else_the_status_page() -> None:
    node = {name: free_port() for name in ("port", "adminPort", "metricsPort")}
    with scratch("node") as directory:
        values = directory / "values.yaml"
        values.write_text(
            json.dumps({"node": {**node, "cache": {"type": "none"}}, "metrics": {"podMonitor": {"enabled": True}}})
        )
        release = parsed(template(values).checked())
        [pod], [text] = servers(release), release.configurations().values()
        (directory / "config.yaml").write_text(text)
        arguments = [part.replace("$(HOST_IP)", HOST_IP) for part in pod["containers"][0]["args"]]
        command = [sys.executable, "-m", "proxy", *arguments, "--config", str(directory / "config.yaml")]
        process = Process(command, log=directory / "log", cwd=PROJECT_ROOT)
        try:
            ready = f"http://127.0.0.1:{node['adminPort']}/readyz"
            await asyncio.to_thread(process.wait_ready, lambda: answers(ready, 200))
            page = await asyncio.to_thread(fetch, f"http://{HOST_IP}:{node['metricsPort']}/metrics")
            assert "scope_proxy_build_info" in page
            reached = {
                (host, port, path): await asyncio.to_thread(answers, f"http://{host}:{port}{path}", 200)
                for host in ("127.0.0.1", HOST_IP)
                for port in (node["adminPort"], node["metricsPort"])
                for path in ("/readyz", "/status")
            }
        finally:
            await asyncio.to_thread(process.stop)
    own, other = ("127.0.0.1", node["adminPort"]), (HOST_IP, node["metricsPort"])
    assert {place for place, found in reached.items() if found} == {
        (*own, "/readyz"),
        (*own, "/status"),
        (*other, "/readyz"),
    }
