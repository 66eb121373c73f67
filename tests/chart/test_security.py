"""What the chart starts may do little, and nothing secret stands where it can be read."""

from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import VALUES, rendered, rendered_by_4, values_of

every_file = pytest.mark.parametrize("values", [None, *VALUES], ids=lambda path: path.stem if path else "defaults")
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
USER = 65532


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def is_configurator(name: str) -> bool:
    """Whether pods write into a directory of the node."""
    return name.startswith("DaemonSet/") and name.endswith("-configurator")


def seccomp_profile(values: Path | None, name: str) -> dict[str, Any]:
    """The seccomp profile of a pod: that of the container runtime, unless the values name another one."""
    given = values_of(values)
    context = (given.get("nodeConfigurator", {}) if is_configurator(name) else given).get("podSecurityContext", {})
    return {"type": "RuntimeDefault", **context.get("seccompProfile", {})}


@every_file
def test_no_pod_has_a_token_or_more_than_it_needs(values: Path | None) -> None:
    for name, pod in rendered(values).pods():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["seccompProfile"] == seccomp_profile(values, name), name
        assert not {"hostPID", "hostIPC"} & set(pod), name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name


def test_all_pods_run_under_the_profile_and_labels_of_the_values() -> None:
    [path] = [path for path in VALUES if "unconfined" in path.stem]
    seen = set()
    for name, pod in rendered(path).pods():
        context = pod["securityContext"]
        if is_configurator(name):
            assert context["seccompProfile"] == {"type": "Localhost", "localhostProfile": "profiles/writer.json"}, name
            assert context["seLinuxOptions"] == {"type": "spc_t"}, name
        else:
            assert context["seccompProfile"] == {"type": "Unconfined"}, name
            assert context["seLinuxOptions"] == {"level": "s0:c123,c456"}, name
            assert (context["runAsNonRoot"], context["runAsUser"]) == (True, USER), name
        seen.add(name.partition("/")[0])
    assert seen == {"DaemonSet", "StatefulSet", "Job", "Pod"}


def test_no_labels_and_the_profile_of_the_runtime_where_the_values_name_none(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"  # as values of an older release of the chart, which `--reuse-values` brings along
    file.write_text(
        "podSecurityContext: {seccompProfile: null, seLinuxOptions: null}\n"
        "nodeConfigurator: {enabled: true, podSecurityContext: null}\nconfig: {registries: {docker.io: {}}}\n"
    )
    for values in (file, VALUES[0], VALUES[2]):
        for name, pod in rendered(values).pods():
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert "seLinuxOptions" not in pod["securityContext"], name


@every_file
def test_the_notes_say_what_an_old_containerd_needs_unless_it_is_set(values: Path | None) -> None:
    [notes] = [text for name, text in rendered_by_4(values_of(values)).items() if name.endswith("NOTES.txt")]
    unconfined = seccomp_profile(values, "")["type"] == "Unconfined"
    assert ("podSecurityContext.seccompProfile.type: Unconfined" in notes) != unconfined
    assert ("containerd is older than 1.4.10" in notes) != unconfined


@every_file
def test_every_pod_but_the_configurators_runs_as_an_ordinary_user(values: Path | None) -> None:
    for name, pod in rendered(values).pods():
        context = pod["securityContext"]
        if is_configurator(name):
            assert (context["runAsUser"], "runAsNonRoot" in context) == (0, False)
        else:
            assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, USER, USER), name


@every_file
def test_all_but_node_pods_hold_to_the_restricted_profile(values: Path | None) -> None:
    for name, pod in rendered(values).pods():
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
        ports = [port for container in containers(pod) for port in container.get("ports", [])]
        if name.startswith("DaemonSet/"):
            assert pod.get("hostNetwork", False) != any("hostPort" in port for port in ports), name
            assert all(port.get("hostIP", "127.0.0.1") == "127.0.0.1" for port in ports), name
            allowed = RESTRICTED_VOLUMES | {"hostPath"}
        else:
            assert pod.get("hostNetwork", False) == name.endswith("-test-node"), name
            assert not any("hostPort" in port for port in ports), name
            allowed = RESTRICTED_VOLUMES
        assert kinds <= allowed, name


@every_file
def test_there_are_no_rights_in_the_cluster(values: Path | None) -> None:
    release = rendered(values)
    assert [item["kind"] for item in release.objects if "rbac" in item["apiVersion"]] == []
    assert all(account["automountServiceAccountToken"] is False for account in release.of("ServiceAccount"))


@every_file
def test_secrets_are_files_for_the_group_alone_and_the_chart_makes_none(values: Path | None) -> None:
    release = rendered(values)
    assert release.of("Secret") == []
    for name, pod in release.pods():
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440, name
        for container in containers(pod):
            assert all("subPath" not in mount for mount in container.get("volumeMounts", [])), name


def test_secrets_of_the_environment_stay_references() -> None:
    both = next(path for path in VALUES if "both" in path.stem)
    [given] = [variable for variable in values_of(both)["extraEnv"] if "valueFrom" in variable]
    found = [
        (name.partition("/")[0], variable)
        for name, pod in rendered(both).pods()
        for container in containers(pod)
        for variable in container.get("env", [])
        if variable["name"] == given["name"]
    ]
    assert {kind for kind, _ in found} >= {"DaemonSet", "StatefulSet"}
    assert [variable for _, variable in found if variable != given] == []


@every_file
def test_no_service_for_nodes_leads_to_metrics(values: Path | None) -> None:
    for service in rendered(values).of("Service"):
        ports = {port["targetPort"] for port in service["spec"]["ports"]}
        is_for_metrics = service["metadata"]["name"].endswith("-metrics")
        assert ports == ({"metrics"} if is_for_metrics else {"registry"})


@every_file
def test_images_are_those_of_the_values(values: Path | None) -> None:
    images = {container["image"] for _, pod in rendered(values).pods() for container in containers(pod)}
    assert len(images) == 1
    assert not next(iter(images)).endswith(":latest")
