"""What `helm test` runs: a pod for the nodes' proxy and one for the central instances, each with one container."""

import asyncio
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.chart.helm import NAMESPACE, RELEASE, USUAL, VALUES, Rendered, case, parsed, rendered, template
from tests.docs.pages import pages, text_of
from tests.operate.program import Program, image, program, registry
from tests.real.processes import Outcome, run

__all__ = ["image", "program", "registry"]

every_file = pytest.mark.parametrize("values", [None, *VALUES], ids=lambda path: path.stem if path else "defaults")
IN_THE_IMAGE = "/opt/scope-proxy/bin/"
HERE = f"{Path(sys.executable).parent}/"
INSTANCES = f"{RELEASE}-scope-proxy-instances.{NAMESPACE}"


def steps(pod: dict[str, Any]) -> list[str]:
    """What a pod runs of the program, one after the other."""
    assert len(pod["spec"]["containers"]) == 1
    found: list[str] = pod["spec"]["containers"][0]["args"]
    return found


def steps_by_pod(release: Rendered) -> dict[str, list[str]]:
    """The same of each pod, by its name."""
    return {pod["metadata"]["name"]: steps(pod) for pod in release.of("Pod")}


@every_file
def test_a_pod_has_one_container_whose_logs_need_no_name(values: Path | None) -> None:
    release = rendered(values)
    for pod in release.of("Pod"):
        assert len(pod["spec"]["containers"]) == 1
        assert "initContainers" not in pod["spec"]
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    servers = len(release.of("DaemonSet", "-node")) + len(release.of("StatefulSet"))
    assert len(release.of("Pod")) == (0 if values == case("small") else servers)


def test_every_proxy_gets_a_request_at_the_address_of_its_clients() -> None:
    assert steps_by_pod(rendered(case("both"))) == {
        f"{RELEASE}-scope-proxy-test-node": ["healthcheck --proxy=http://127.0.0.1:5000", "check", "doctor"],
        f"{RELEASE}-scope-proxy-test-central": [f"healthcheck --proxy=https://{INSTANCES}:5000", "check", "doctor"],
    }
    assert [steps(pod)[0] for pod in rendered(case("host-port")).of("Pod")] == [
        "healthcheck --proxy=http://127.0.0.1:15000"
    ]
    without = parsed(template(case("both"), USUAL, "--set", "tests.doctor=false").checked())
    assert [list_of[1:] for list_of in steps_by_pod(without).values()] == [["check"], ["check"]]


@every_file
def test_a_pod_is_where_it_reaches_the_proxy(values: Path | None) -> None:
    """The node's own loopback needs the node's network; the central instances are reached through a policy."""
    release = rendered(values)
    for pod in release.of("Pod"):
        url = urlsplit(steps(pod)[0].rpartition("=")[2])
        is_on_loopback = url.hostname == "127.0.0.1"
        assert pod["spec"].get("hostNetwork", False) == is_on_loopback
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        component = "node" if is_on_loopback else "central"
        assert volumes["config"]["configMap"]["name"].endswith(f"-{component}")


@pytest.mark.parametrize("metrics", ["[]", '[{"podSelector":{"matchLabels":{"app":"prometheus"}}}]'])
@pytest.mark.parametrize("name", ["both", "certificates"])
def test_a_narrow_policy_lets_the_test_in_where_it_asks(name: str, metrics: str) -> None:
    narrow = (
        "networkPolicy.enabled=true",
        'networkPolicy.nodeCIDRs=["10.0.0.0/16"]',
        f"networkPolicy.metrics={metrics}",
    )
    more = [argument for value in narrow for argument in ("--set-json", value)]
    release = parsed(template(case(name), USUAL, *more).checked())
    pod = release.one("Pod", "-test-central")
    port = int(steps(pod)[0].rpartition(":")[2])
    [served] = release.one("StatefulSet")["spec"]["template"]["spec"]["containers"]
    named = {item["containerPort"]: item["name"] for item in served["ports"]}
    rules = release.one("NetworkPolicy", "-central")["spec"]["ingress"]
    peers = [peer for rule in rules if rule["ports"][0]["port"] == named[port] for peer in rule["from"]]
    own = [peer["podSelector"]["matchLabels"] for peer in peers if set(peer) == {"podSelector"}]
    assert any(labels.items() <= pod["metadata"]["labels"].items() for labels in own)


def test_clients_with_certificates_alone_are_no_test_pods() -> None:
    assert steps(rendered(case("certificates")).one("Pod"))[0] == f"healthcheck --admin={INSTANCES}:5008"
    either = parsed(
        template(case("certificates"), USUAL, "--set-json", 'central.clients.auth=["certificate","basic"]').checked()
    )
    assert steps(either.one("Pod"))[0] == f"healthcheck --proxy=https://{INSTANCES}:5000"


def test_no_page_asks_for_logs_of_pods_that_are_removed() -> None:
    """Helm deletes a pod that has succeeded before it reads the logs."""
    found = [f"{page.name}: {line}" for page in pages() for line in text_of(page).splitlines() if "helm test" in line]
    assert found
    assert [line for line in found if "--logs" in line] == []


async def ran(pod: dict[str, Any], config: Path) -> Outcome:
    """Run a pod's container here, with another configuration."""
    [container] = pod["spec"]["containers"]
    command = [part.replace(IN_THE_IMAGE, HERE) for part in (*container["command"], *container["args"])]
    return await asyncio.to_thread(run, command, env={"SCOPE_PROXY_CONFIG": str(config)})


@pytest.mark.slow
async def test_it_says_what_each_step_found(program: Program) -> None:
    await program.start()
    port = program.address.rpartition(":")[2]
    values = ("--set-json", 'config.registries={"docker.io":{}}', "--set", f"node.port={port}")
    pod = parsed(template(None, USUAL, *values).checked()).one("Pod")
    good = await ran(pod, program.config)
    await program.stop()
    bad = await ran(pod, program.config)
    assert good.status == 0, good.output + good.errors
    assert bad.status == 1
    assert f"http://127.0.0.1:{port}/v2/: no response" in bad.errors
    for outcome in (good, bad):
        printed = [line for line in outcome.output.splitlines() if line.startswith("$ ")]
        assert printed == [f"$ scope-proxy {step}" for step in steps(pod)]
        assert "0 failed" in outcome.output  # of the registry, whether or not the proxy serves
