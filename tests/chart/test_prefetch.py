"""What the chart downloads into the caches of central instances in advance."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli.prefetch import prefetch
from tests.chart.helm import (
    NAMESPACE,
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
from tests.operate.program import Program, image, program, registry
from tests.real.processes import run

__all__ = ["image", "program", "registry"]

HOST = f"{RELEASE}-scope-proxy.{NAMESPACE}"
INSTANCES = f"{RELEASE}-scope-proxy-instances.{NAMESPACE}"
CENTRAL = ("--set", "mode=central", "--set-json", 'prefetch.images=["reg.example/library/app:1"]')


def with_values(*more: str) -> Rendered:
    """The chart in mode `central` with one image."""
    return parsed(template(None, USUAL, *CENTRAL, *more).checked())


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    """The pod of a Job or of the Jobs of a CronJob."""
    specification = job["spec"]["jobTemplate"]["spec"] if job["kind"] == "CronJob" else job["spec"]
    pod: dict[str, Any] = specification["template"]["spec"]
    return pod


def arguments(job: dict[str, Any]) -> list[str]:
    """What it runs the program with."""
    [container] = pod_of(job)["containers"]
    found: list[str] = container["args"]
    return found


def test_nothing_is_downloaded_unless_images_are_named() -> None:
    for release in (rendered(case("central")), rendered(case("01-node"))):
        assert release.of("CronJob") == release.of("Job", "-prefetch") == []


def test_a_job_follows_each_install_and_upgrade_and_a_cron_job_repeats_it() -> None:
    release = rendered(case("prefetch"))
    job, cron_job = release.one("Job", "-prefetch"), release.one("CronJob", "-prefetch")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    assert cron_job["spec"]["schedule"] == "0 3 * * *"
    assert "helm.sh/hook" not in cron_job["metadata"].get("annotations", {})
    assert pod_of(job) == pod_of(cron_job)
    assert with_values("--set", "prefetch.afterInstall=false").of("Job") == []
    assert with_values("--set", "prefetch.schedule=").of("CronJob") == []


def test_every_instance_is_requested_by_the_name_that_its_certificate_has() -> None:
    release = rendered(case("prefetch"))
    found = arguments(release.one("Job", "-prefetch"))
    assert found[:2] == ["cache", "prefetch"]
    context = prefetch.make_context("prefetch", found[2:])
    assert context.params["through"] == f"https://{HOST}:5000"
    assert context.params["instances"] == INSTANCES
    assert release.one("Service", "-instances")["spec"]["clusterIP"] == "None"
    assert context.params["count"] == release.one("StatefulSet")["spec"]["replicas"] == 3
    assert context.params["platforms"] == ("linux/amd64", "linux/arm/v7")
    assert context.params["images"][0] == "docker.io/library/nginx:1.27"
    assert len(context.params["images"]) == 2
    assert "--count=4" in arguments(
        with_values(
            "--set", "central.autoscaling.enabled=true", "--set", "central.autoscaling.minReplicas=4"
        ).one("Job")
    )  # fmt: skip


def test_every_file_that_is_named_is_mounted_and_the_key_of_the_instances_is_not() -> None:
    certificates = (
        "--set-json", 'central.clients.auth=["certificate","basic"]',
        "--set", "tls.clientCA.existingSecret=clients",
        "--set", "prefetch.certificateSecret=prefetch-client",
    )  # fmt: skip
    release = parsed(template(case("prefetch"), USUAL, *certificates).checked())
    job = release.one("Job", "-prefetch")
    pod = pod_of(job)
    [container] = pod["containers"]
    volumes = {volume["name"]: volume["secret"] for volume in pod["volumes"]}
    directories = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    files = [Path(text.partition("=")[2]) for text in arguments(job) if "-file=" in text]
    assert {file.name for file in files} == {"ca.crt", "password", "tls.crt", "tls.key"}
    assert {str(file.parent) for file in files} == set(directories)
    authority = directories["/etc/scope-proxy/authority"]
    assert (authority["secretName"], authority["items"]) == ("proxy-tls", [{"key": "ca.crt", "path": "ca.crt"}])
    [name] = container["env"]
    assert name["valueFrom"] == {"secretKeyRef": {"name": "prefetch-login", "key": "username"}}


def test_a_policy_lets_it_in() -> None:
    release = rendered(case("prefetch"))
    labels = release.one("Job", "-prefetch")["spec"]["template"]["metadata"]["labels"]
    [rule, *_] = release.one("NetworkPolicy", "-central")["spec"]["ingress"]
    assert rule["ports"][0]["port"] == "registry"
    selectors = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if set(peer) == {"podSelector"}]
    assert any(selector.items() <= labels.items() for selector in selectors)


def test_the_notes_say_where_a_failure_is_explained() -> None:
    command = f"kubectl --namespace {NAMESPACE} logs job/{RELEASE}-scope-proxy-prefetch"
    found = {path: rendered_by_4(values_of(path))["scope-proxy/templates/NOTES.txt"] for path in VALUES}
    assert [path for path, notes in found.items() if command in notes] == [case("prefetch")]


@pytest.mark.slow
async def test_the_job_fills_the_cache_of_a_proxy_and_fails_where_none_responds(program: Program) -> None:
    await program.start()
    found = arguments(with_values("--set", "central.replicas=1", "--set", "prefetch.wait=1").one("Job"))
    here = {f"http://{HOST}:5000": f"http://{program.address}", INSTANCES: "127.0.0.1"}
    replaced = [option + "=" + here.get(value, value) if value else option
                for option, _, value in (text.partition("=") for text in found)]  # fmt: skip
    command = [f"{Path(sys.executable).parent}/scope-proxy", *replaced]
    first, second = [await asyncio.to_thread(run, command) for _ in range(2)]
    await program.stop()
    third = await asyncio.to_thread(run, command)
    assert first.status == 0, first.errors
    assert first.output.startswith("reg.example/library/app:1 at 127.0.0.1: ")
    assert second.output.endswith(", 0 B of it fetched\n")
    assert third.status == 1
    assert "after 1 s" in third.errors


def test_images_are_pinned_where_the_values_say_so() -> None:
    def kept(*more: str) -> object:
        [config] = [found for found in with_values(*more).of("ConfigMap") if "config.yaml" in found["data"]]
        return yaml.safe_load(config["data"]["config.yaml"])["cache"].get("keep")

    assert kept() is None
    assert kept("--set", "prefetch.pinned=true") == ["reg.example/library/app:1"]
    own = ("--set-json", 'config.cache={"keep":["docker.io/**"]}')
    assert kept("--set", "prefetch.pinned=true", *own) == ["docker.io/**", "reg.example/library/app:1"]
