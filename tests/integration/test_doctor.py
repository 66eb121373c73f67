"""`scope-proxy doctor` against the scripted registry: connections, TLS, manifests, blobs, and what it prints."""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.doctor.run import TimeLimits
from proxy.testbed.images import Image, make_index
from proxy.testbed.tokens import Rules
from tests.fakes.canaries import OTHER_PASSWORD, PASSWORD
from tests.fakes.changes import Challenge, DropHeader, FlipByte, IgnoreRange, Redirect, Reply, SetHeader
from tests.fakes.doctor import IMAGE, Diagnosis, diagnosed, diagnosed_within, examined, run
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import ACCOUNT, LOGIN, NAME, REG, SCOPE, UPSTREAM, authority, settings
from tests.fakes.registry import ScriptedRegistry

HOST = "127.0.0.1"


def credentials(registry: ScriptedRegistry) -> set[str]:
    return {entry.credential for entry in registry.record.all()}


async def test_a_good_registry_passes_every_check_by_one_get(registry: ScriptedRegistry, image: Image) -> None:
    found = await examined(registry)
    assert found.status == 0
    assert found.data["ok"] is True
    assert found.data["hosts"][0]["repository"] == UPSTREAM
    skipped = {check for check, outcome in found.outcomes().items() if outcome == "skipped"}
    assert skipped == {"tls", "clock"}  # plain HTTP, and the fake has no clock
    assert set(found.outcomes().values()) == {"passed", "skipped"}
    assert found.of("manifest get").facts == {
        "digest": image.digest,
        "mediaType": image.media_type,
        "bytes": len(image.manifest),
        "pulls": 1,
    }
    assert len(registry.record.of("manifest", "GET")) == 1
    assert registry.record.of("blob")[0].headers["range"] == "bytes=0-0"


async def test_nothing_is_requested_that_is_not_for_this_repository(registry: ScriptedRegistry) -> None:
    await examined(registry)
    unknown = {scope for scope in registry.record.scopes if "/unknown:" in scope}
    assert registry.record.scopes - unknown == {SCOPE, f"repository:{UPSTREAM}:pull,push"}
    assert len(unknown) == 1
    assert {entry.repository for entry in registry.record.all() if entry.repository} == {UPSTREAM}
    assert {entry.method for entry in registry.record.all()} == {"GET", "HEAD"}
    registry.record.clear()
    await examined(registry)
    assert not registry.record.scopes & unknown  # another name each time


async def test_a_registry_that_is_down(image: Image) -> None:
    async with ScriptedRegistry([image]) as registry:
        configuration = settings([registry.url], login=LOGIN)
    found = await diagnosed(configuration, IMAGE)
    assert (found.status, found.failed()) == (1, {"connection"})
    assert "Connection refused" in found.of("connection").seen
    assert found.of("credential").outcome == "passed"  # it needs no connection
    assert found.of("token").outcome == "skipped"


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    found = await diagnosed(settings(["https://registry.example"], login=LOGIN))
    assert (found.status, found.failed()) == (1, {"resolution"})
    assert "registry.example cannot be resolved" in found.of("resolution").seen


async def test_a_registry_that_does_not_answer(registry: ScriptedRegistry, never: Stall) -> None:
    registry.script(on(kind="ping"), never)
    found = await diagnosed_within(TimeLimits(request=0.2), settings([registry.url], login=LOGIN), IMAGE)
    assert found.failed() == {"connection"}
    assert "in time" in found.of("connection").seen


async def test_all_checks_of_a_host_together_are_bounded(registry: ScriptedRegistry, never: Stall) -> None:
    registry.script(on("GET", "manifest"), never)
    found = await diagnosed_within(TimeLimits(host=1.0), settings([registry.url], login=LOGIN), IMAGE)
    assert found.status == 1
    assert found.failed()
    assert found.of("referrers").outcome == "skipped"


@pytest.mark.parametrize(
    ("skew", "outcome", "status"), [(0, "passed", 0), (120, "warned", 0), (-120, "warned", 0), (900, "failed", 1)]
)
async def test_clock_skew(registry: ScriptedRegistry, skew: int, outcome: str, status: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=skew), usegmt=True)
    registry.script(on(kind="ping"), SetHeader("Date", date))
    found = await examined(registry)
    assert (found.of("clock").outcome, found.status) == (outcome, status)


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that hosts trust by `caFile`; the system's own are not read: that takes a second each time."""
    monkeypatch.setattr("ssl.SSLContext.load_default_certs", lambda *_: None)
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.crt")
    return made


def serving(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


async def over_tls(image: Image, leaf: trustme.LeafCert, tls: Mapping[str, Any]) -> Diagnosis:
    async with ScriptedRegistry([image], Rules(accounts=(ACCOUNT,)), tls=serving(leaf)) as registry:
        found = await examined(registry, host={"tls": tls})
        if found.status:
            assert registry.record.all() == ()
        return found


def until(ca: trustme.CA, days: float, name: str = HOST) -> trustme.LeafCert:
    now = datetime.now(UTC)
    return ca.issue_cert(name, not_before=now - timedelta(days=99), not_after=now + timedelta(days))


@pytest.mark.parametrize(("days", "outcome"), [(90.5, "passed"), (12.5, "warned")])
async def test_a_certificate_that_ends_soon_is_warned_of(
    image: Image, ca: trustme.CA, tmp_path: Path, days: float, outcome: str
) -> None:
    found = await over_tls(image, until(ca, days), {"caFile": str(tmp_path / "ca.crt")})
    finding = found.of("tls")
    assert (found.status, finding.outcome) == (0, outcome)
    assert finding.facts == {"days": int(days), "verified": True}
    assert found.of("manifest get").outcome == "passed"


async def test_an_expired_certificate(image: Image, ca: trustme.CA, tmp_path: Path) -> None:
    found = await over_tls(image, until(ca, -2), {"caFile": str(tmp_path / "ca.crt")})
    assert (found.status, found.failed()) == (1, {"tls"})
    assert "certificate has expired" in found.of("tls").seen
    assert "renew" in found.of("tls").advice


async def test_a_certificate_for_another_name(image: Image, ca: trustme.CA, tmp_path: Path) -> None:
    found = await over_tls(image, until(ca, 90, "other.example"), {"caFile": str(tmp_path / "ca.crt")})
    assert (found.status, found.failed()) == (1, {"tls"})
    assert "certificate" in found.of("tls").advice


async def test_a_certificate_of_an_unknown_authority(image: Image, ca: trustme.CA) -> None:
    found = await over_tls(image, until(ca, 90), {})
    assert (found.status, found.failed()) == (1, {"tls"})
    assert ".tls.caFile" in found.of("tls").advice
    assert found.of("connection").outcome == "passed"


async def test_a_certificate_that_is_not_verified_is_warned_of(image: Image, ca: trustme.CA) -> None:
    found = await over_tls(image, until(ca, 90, "other.example"), {"insecureSkipVerify": True})
    assert (found.status, found.of("tls").outcome) == (0, "warned")
    assert found.of("tls").facts["verified"] is False


@pytest.mark.usefixtures("ca")
async def test_tls_to_a_port_that_speaks_none(registry: ScriptedRegistry) -> None:
    configuration = settings([registry.url.replace("http:", "https:")], login=LOGIN)
    found = await diagnosed(configuration)
    assert found.failed() == {"tls"}
    assert f"write http://{authority(registry.url)}" in found.of("tls").advice


async def test_redirected_blobs_are_followed_without_credentials(registry: ScriptedRegistry) -> None:
    async with ObjectStore() as store:
        registry.script(on(kind="blob"), Redirect(store.signer(registry.library)))
        found = await examined(registry)
        assert found.of("redirect").facts == {"target": store.url}
        assert found.of("blob range").outcome == "passed"
        assert [entry.credential for entry in store.record.all()] == ["anonymous"]


async def test_a_redirect_to_where_we_do_not_go(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="blob"), Redirect("http://169.254.169.254/latest"))
    found = await examined(registry)
    assert (found.status, found.failed()) == (1, {"redirect"})
    assert "redirects" in found.of("redirect").advice
    assert found.of("blob range").outcome == "skipped"
    assert found.of("referrers").outcome == "passed"


async def test_a_registry_that_sends_our_secret_back_does_not_get_it_displayed(
    registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.1.1", 80))]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    registry.script(on(kind="blob"), Redirect(f"http://{PASSWORD}.example/"))
    found = await examined(registry)
    assert "<redacted>.example" in found.of("redirect").seen


async def test_a_blob_without_ranges_is_warned_of(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="blob"), IgnoreRange())
    finding = (await examined(registry)).of("blob range")
    assert (finding.outcome, finding.facts["status"]) == ("warned", 200)


async def test_a_blob_that_is_removed(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="blob"), Reply(404))
    found = await examined(registry)
    assert (found.status, found.failed()) == (1, {"blob range"})


async def test_a_web_page_is_no_registry(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="ping"), Reply(200, body=b"<html>", content_type="text/html"))
    found = await examined(registry, authority(registry.url))
    assert found.failed() == {"challenge"}
    assert "web page" in found.of("challenge").seen


async def test_a_registry_without_ping_is_checked_by_its_repository(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="ping"), Reply(404))
    found = await examined(registry)
    assert (found.status, found.of("challenge").outcome) == (0, "warned")
    assert found.of("manifest get").outcome == "passed"


async def test_a_challenge_that_cannot_be_read(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="manifest"), Challenge(("Negotiate",)))
    found = await examined(registry)
    assert (found.status, found.failed()) == (1, {"repository challenge"})
    assert credentials(registry) == {"anonymous"}


async def test_another_scope_in_the_challenge_is_reported_and_not_requested(registry: ScriptedRegistry) -> None:
    line = f'Bearer realm="{registry.realm}",service="{registry.rules.service}",scope="repository:virtual/app:pull"'
    registry.script(on("HEAD", "manifest").times(1), Challenge((line,)))
    found = await examined(registry)
    finding = found.of("repository challenge")
    assert (finding.outcome, finding.facts["scope"]) == ("warned", "repository:virtual/app:pull")
    assert "scope: challenge" in finding.advice
    assert "repository:virtual/app:pull" not in registry.record.scopes


async def test_an_image_that_is_not_there_costs_no_pull(registry: ScriptedRegistry) -> None:
    found = await examined(registry, f"{REG}/{NAME}:nope")
    assert (found.status, found.failed()) == (1, {"manifest head"})
    assert registry.record.of("manifest", "GET") == ()


async def test_wrong_bytes_are_reported(registry: ScriptedRegistry) -> None:
    registry.script(on("GET", "manifest"), FlipByte("last"))
    found = await examined(registry)
    assert (found.status, found.failed()) == (1, {"manifest get"})


async def test_a_registry_without_head_or_digest(registry: ScriptedRegistry) -> None:
    entry = registry.script(on("HEAD", "manifest").with_header("Authorization"), Reply(405))
    assert (await examined(registry)).of("manifest head").outcome == "warned"
    assert entry.fired == 1
    registry.behave()
    registry.script(on("HEAD", "manifest").with_header("Authorization"), DropHeader("Docker-Content-Digest"))
    found = await examined(registry)
    assert (found.status, found.of("manifest head").outcome) == (0, "warned")


async def test_the_first_image_of_an_index_gives_the_blob() -> None:
    index = make_index(UPSTREAM, "1")
    async with ScriptedRegistry([index], Rules(accounts=(ACCOUNT,))) as registry:
        found = await examined(registry)
        assert (found.status, found.of("manifest get").facts["pulls"]) == (0, 2)
        got = [entry.reference for entry in registry.record.of("manifest", "GET")]
        assert got == ["1", index.platforms[0].digest]
        assert registry.record.of("blob")[0].reference in index.platforms[0].blobs


async def test_an_image_by_digest(registry: ScriptedRegistry, image: Image) -> None:
    found = await examined(registry, f"{REG}/{NAME}@{image.digest}")
    assert (found.status, found.of("manifest get").facts["digest"]) == (0, image.digest)


async def test_rate_limits_are_reported(registry: ScriptedRegistry) -> None:
    limit, left = SetHeader("ratelimit-limit", "100;w=21600"), SetHeader("ratelimit-remaining", "3;w=21600")
    registry.script(on("HEAD", "manifest"), limit, left)
    finding = (await examined(registry)).of("rate limit")
    known = {"limit": 100, "remaining": 3, "window": 21600, "resetSeconds": 21600, "source": None}
    assert (finding.outcome, finding.facts) == ("warned", known)
    registry.behave()
    registry.script(
        on("HEAD", "manifest").with_header("Authorization"), Reply(429), limit, SetHeader("ratelimit-remaining", "0")
    )
    found = await examined(registry)
    assert found.failed() == {"manifest head"}
    assert found.of("rate limit").facts["remaining"] == 0


@pytest.mark.parametrize("present", [True, False])
async def test_the_referrers_api_is_there_or_not(image: Image, present: bool) -> None:
    async with ScriptedRegistry([image], Rules(accounts=(ACCOUNT,), referrers=present)) as registry:
        finding = (await examined(registry)).of("referrers")
    assert (finding.outcome, finding.facts["present"]) == ("passed", present)


async def test_every_endpoint_is_examined_and_one_that_is_down_fails_alone(
    registry: ScriptedRegistry, image: Image
) -> None:
    async with ScriptedRegistry([image]) as stopped:
        pass
    found = await diagnosed(settings([stopped.url, registry.url], login=LOGIN))
    assert [each["url"] for each in found.data["hosts"]] == [f"{stopped.url}/v2", f"{registry.url}/v2"]
    assert (found.status, found.failed(0), found.failed(1)) == (1, {"connection"}, set())


async def test_requests_go_through_the_forward_proxy(registry: ScriptedRegistry) -> None:
    found = await diagnosed(
        settings(["http://registry.example"], login=LOGIN),
        env={"HTTP_PROXY": f"http://user:canary@{authority(registry.url)}"},
    )
    assert "the forward proxy" in found.of("resolution").seen
    assert "through the forward proxy" in found.of("connection").seen
    assert "plain HTTP" in found.of("tls").seen
    assert found.of("tls").outcome == "warned"


async def test_lines_for_people(registry: ScriptedRegistry) -> None:
    status, output = await asyncio.to_thread(run, settings([registry.url], login=LOGIN), IMAGE)
    assert status == 0
    lines = output.splitlines()
    assert lines[0].startswith(f"{registry.url}/v2  (")
    assert lines[0].endswith(f"repository {UPSTREAM}")
    assert any(line.split(maxsplit=3)[:3] == ["passed", "unknown", "scope"] for line in lines)
    assert lines[-1] == "15 passed, 0 warned, 0 failed, 2 skipped"
    assert "\x1b" not in output


async def test_colours_and_columns_on_a_terminal(registry: ScriptedRegistry) -> None:
    colours = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "110"}
    stopped = f"{REG}/{NAME}-gone:1"
    status, output = await asyncio.to_thread(run, settings([registry.url], login=LOGIN), stopped, env=colours)
    assert status == 1
    assert "\x1b[32m  passed" in output
    assert "\x1b[1;31m  failed" in output
    assert "check the rewrite rule" in output


async def test_advice_stands_behind_what_was_seen(registry: ScriptedRegistry) -> None:
    wrong = settings([registry.url], login={**LOGIN, "password": OTHER_PASSWORD})
    status, output = await asyncio.to_thread(run, wrong, authority(registry.url))
    assert status == 1
    (line,) = [line for line in output.splitlines() if line.startswith("  failed")]
    assert "answers 401 to robot -> check user name and password" in line


def test_a_host_outside_the_configuration_gets_no_request() -> None:
    configuration = settings(["https://registry.example"])
    status, output = run(configuration, "other.example")
    assert status == 2
    assert "its endpoints: registry.example" in output
    status, output = run(configuration, "quay.io/some/image:1")
    assert status == 1
    assert "registry quay.io is not configured" in output


def test_a_configuration_that_cannot_be_used_is_refused_as_by_check() -> None:
    configuration = settings(["https://registry.example"], host={"tls": {"caFile": "/no/such/ca.crt"}})
    status, output = run(configuration)
    assert status == 2
    assert re.search(r"\.yaml:\d+:\d+: hosts\..*\.tls\.caFile: cannot use /no/such/ca\.crt", output), output
    assert "scope-proxy: 1 error(s) in the configuration" in output
    assert run({"version": 1})[0] == 2
    assert run({"version": 9})[0] == 2
