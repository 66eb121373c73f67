"""The parts of the chart that are made on demand."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli.node import node
from tests.chart.helm import (
    CHART,
    RELEASE,
    USUAL,
    VALUES,
    Rendered,
    case,
    parsed,
    rendered,
    rendered_by_4,
    template,
    values_of,
)
from tests.chart.schemas import problems
from tests.docs.releases import RELEASES, SETTING

every_file = pytest.mark.parametrize("values", [None, *VALUES], ids=lambda path: path.stem if path else "defaults")


def selects(selector: dict[str, Any], release: Rendered) -> set[str]:
    """The workloads whose pods a selector of labels and expressions takes."""
    found = set()
    for item in release.objects:
        if item["kind"] not in {"DaemonSet", "StatefulSet", "Job"}:
            continue
        labels = item["spec"]["template"]["metadata"]["labels"]
        plain = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        rest = selector.get("matchExpressions", [])
        if plain and all(labels.get(rule["key"]) in rule["values"] for rule in rest):
            found.add(f"{item['kind']}/{item['metadata']['name']}")
    return found


def test_services_and_budgets_take_the_central_instances_alone() -> None:
    release = rendered(case("both"))
    central = {f"StatefulSet/{RELEASE}-scope-proxy-central"}
    service = release.one("Service", "scope-proxy")
    assert service["spec"]["ports"][0]["nodePort"] == 30500
    assert selects({"matchLabels": service["spec"]["selector"]}, release) == central
    assert selects(release.one("PodDisruptionBudget")["spec"]["selector"], release) == central
    assert selects(release.one("NetworkPolicy")["spec"]["podSelector"], release) == central
    [constraint, _] = release.one("StatefulSet")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert selects(constraint["labelSelector"], release) == central
    named = release.one("StatefulSet")["spec"]["serviceName"]
    assert release.one("Service", named)["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("name", ["both", "host-port"])
@pytest.mark.parametrize("metrics", ["[]", "null"])
def test_a_policy_without_readers_of_metrics_lets_nobody_in_there(name: str, metrics: str) -> None:
    release = parsed(template(case(name), USUAL, "--set-json", f"networkPolicy.metrics={metrics}").checked())
    specification = release.one("NetworkPolicy")["spec"]
    assert [rule for rule in specification["ingress"] if not rule.get("from")] == []  # that would be everybody
    ports = [port["port"] for rule in specification["ingress"] for port in rule["ports"]]
    assert ports == (["registry"] if name == "both" else [])
    assert "Ingress" in specification["policyTypes"]
    assert problems(release.one("NetworkPolicy"), USUAL) == []


@every_file
def test_no_rule_of_a_policy_is_for_everybody(values: Path | None) -> None:
    for policy in rendered(values).of("NetworkPolicy"):
        assert [rule for rule in policy["spec"]["ingress"] if not rule.get("from")] == []
        assert policy["spec"]["podSelector"]["matchLabels"]


def test_monitors_take_every_proxy_and_nothing_else() -> None:
    pods = rendered(case("k3s")).one("PodMonitor")["spec"]
    assert selects(pods["selector"], rendered(case("k3s"))) == {"DaemonSet/images-node"}
    release = rendered(case("both"))
    monitor = release.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    components = monitor["spec"]["selector"]["matchExpressions"][0]["values"]
    services = [
        item
        for item in release.of("Service")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] in components
    ]
    assert len(services) == 2
    taken = set().union(*(selects({"matchLabels": item["spec"]["selector"]}, release) for item in services))
    assert taken == {f"DaemonSet/{RELEASE}-scope-proxy-node", f"StatefulSet/{RELEASE}-scope-proxy-central"}


def test_rules_are_those_of_the_file_without_what_is_left_out() -> None:
    rule = rendered(case("both")).one("PrometheusRule")
    original = yaml.safe_load((CHART / "rules" / "scope-proxy.rules.yaml").read_text(encoding="utf-8"))
    alerts = [item for group in rule["spec"]["groups"] for item in group["rules"]]
    wanted = [item for group in original["groups"] for item in group["rules"] if item.get("alert") != "ScopeProxyDown"]
    assert [item["expr"] for item in alerts] == [item["expr"] for item in wanted]
    runbooks = [item["annotations"]["runbook_url"] for item in alerts if "alert" in item]
    assert all(url.startswith("https://example.com/docs/runbooks/ScopeProxy") for url in runbooks)


def test_every_dashboard_is_there_for_the_sidecar_and_for_the_operator() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (CHART / "dashboards").glob("*.json")}
    assert files
    by_label = rendered(case("k3s"))
    dashboards: dict[str, str] = {}
    for item in by_label.of("ConfigMap"):
        if item["metadata"]["labels"].get("grafana_dashboard") == "1":
            assert item["metadata"]["annotations"] == {"grafana_folder": "Registries"}
            dashboards |= item["data"]
    assert {name: text.strip() for name, text in dashboards.items()} == {
        name: text.strip() for name, text in files.items()
    }
    by_operator = rendered(case("both"))
    references = {item["spec"]["configMapRef"]["name"] for item in by_operator.of("GrafanaDashboard")}
    assert references == {
        item["metadata"]["name"] for item in by_operator.of("ConfigMap", "") if ".json" in str(item["data"].keys())
    }


def test_certificates_name_the_service() -> None:
    certificate = rendered(case("both")).one("Certificate")["spec"]
    assert f"{RELEASE}-scope-proxy.registry.svc" in certificate["dnsNames"]
    [volume] = [
        volume
        for volume in rendered(case("both")).one("StatefulSet")["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "tls"
    ]
    assert volume["secret"]["secretName"] == certificate["secretName"]


def test_the_configurator_knows_both_endpoints_and_the_images_registry() -> None:
    [item] = [item for item in rendered(case("both")).of("DaemonSet", "-configurator") if not hook(item)]
    [container] = item["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["node", "apply"]
    proxies = [argument for argument in container["args"] if argument.startswith("--proxy=")]
    assert proxies == ["--proxy=http://127.0.0.1:5000", "--proxy=https://$(HOST_IP):30500"]
    assert "--image-registry=registry.example.com" in container["args"]
    assert "--ca-file=/etc/scope-proxy/authority/ca.crt" in container["args"]


def test_the_configurator_gets_only_what_the_program_knows() -> None:
    for path in (case("both"), case("k3s"), case("leaving")):
        for item in rendered(path).of("DaemonSet", "-configurator"):
            pod = item["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                if "args" in container:
                    group, name, *options = container["args"]
                    assert (group, {option.partition("=")[0] for option in options} - known(name)) == ("node", set())


def known(name: str) -> set[str]:
    """The options of `scope-proxy node NAME`."""
    return {option for parameter in node.commands[name].params for option in parameter.opts}


REMOVE = ["node", "remove", "--certs-dir=/var/lib/rancher/k3s/agent/etc/containerd/certs.d"]


def hook(item: dict[str, Any]) -> str:
    """When Helm makes an object that is no part of the release; empty for those that are."""
    return str(item["metadata"].get("annotations", {}).get("helm.sh/hook", ""))


def test_an_uninstall_takes_the_nodes_files_away_first() -> None:
    release = rendered(case("k3s"))
    mine, removal = sorted(release.of("DaemonSet", "-configurator"), key=hook)
    assert (hook(mine), hook(removal)) == ("", "pre-delete")
    assert mine["metadata"]["name"] == removal["metadata"]["name"]  # so the one takes the place of the other
    assert removal["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"
    first, second = removal["spec"]["template"]["spec"]["initContainers"]
    assert (first["name"], second["args"]) == ("settle", [*REMOVE, f"--instance=registry/{RELEASE}"])
    [job] = release.of("Job")
    assert int(job["metadata"]["annotations"]["helm.sh/hook-weight"]) > 0


def test_a_configurator_that_leaves_only_removes() -> None:
    [item] = rendered(case("leaving")).of("DaemonSet", "-configurator")
    assert hook(item) == ""
    assert item["spec"]["template"]["spec"]["initContainers"][1]["args"][:2] == ["node", "remove"]


def notes(values: dict[str, Any]) -> str:
    """What Helm prints after an installation."""
    return rendered_by_4(values)["scope-proxy/templates/NOTES.txt"]


def test_notes_tell_the_way_of_the_image() -> None:
    assert "ctr --namespace k8s.io images import" in notes({})
    assert "without the proxy (bootstrap.way: public)" in notes(values_of(case("central")))
    assert "imagePullSecret\n   regcred" in notes(values_of(case("both")))


def test_notes_tell_the_next_step_of_this_release() -> None:
    assert "No registry is configured" in notes({})
    notes_text = notes(values_of(case("01-node")))
    assert '"cp.icr.io":\n         endpoint: ["http://127.0.0.1:5000"]' in notes_text
    assert "     helm test demo --namespace registry\n" in notes_text
    assert "kubectl --namespace registry logs demo-scope-proxy-test-node" in notes_text
    assert "test-central" not in notes_text
    assert "helm test" not in notes(values_of(case("small")))
    assert "port-forward daemonset/demo-scope-proxy-node 5007     # http://127.0.0.1:5007/status" in notes_text
    assert "port-forward statefulset/demo-scope-proxy-central 5017 " in notes(
        {"mode": "central", "central": {"adminPort": 5017}}
    )
    assert "set central.service.nodePort" in notes({"mode": "central"})
    assert "are ready, set nodeConfigurator.enabled: false" in notes(values_of(case("leaving")))


def test_notes_name_the_setting_that_ends_the_fallback_only_with_the_releases_that_know_it() -> None:
    notes_text = notes(values_of(case("01-node")))
    sentence = " ".join(notes_text.partition("On k3s and RKE2")[2].partition("\n4.")[0].split())
    assert f"{SETTING}: true" in sentence
    assert RELEASES in sentence
