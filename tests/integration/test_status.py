"""The status page over HTTP: what it tells of a running proxy, to people and to scripts."""

import asyncio
import base64
import errno
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme

from proxy.config.load import load_config
from proxy.observe.metrics import CACHE_WRITE_ERROR_AT
from proxy.runtime.reload import ConfigSource
from proxy.runtime.run import running
from proxy.server.admin import REQUESTS
from proxy.store.disk import REASONS
from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import assert_no_secret
from tests.fakes.changes import FlipByte, Reply
from tests.fakes.client import Got, NodeClient, read_answer
from tests.fakes.matching import on
from tests.fakes.proxy import (
    LOGIN,
    REG,
    UPSTREAM,
    ProxyUnderTest,
    authority,
    blob,
    layer_of,
    manifest,
    server_tuning,
    settings,
    started,
)
from tests.fakes.registry import ScriptedRegistry

JSON = ("Accept", "application/json")
BROWSER = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
WITHIN = 30.0
"""Seconds within which something has to be reported."""
POLL = 0.02
PATHS = ("/status", "/status.json", f"/status/explain?image={REG}/library/app:1")


async def ask(admin: NodeClient, target: str, *headers: tuple[str, str], method: str = "GET") -> Got:
    """An answer of the admin port, which is not held to the rules for nodes."""
    async with admin.opened(method, target, ("Connection", "close"), *headers) as (reader, _):
        return await read_answer(reader, method)


async def document(admin: NodeClient) -> dict[str, Any]:
    """The status as JSON."""
    got = await ask(admin, "/status.json")
    assert (got.status, got.header("Content-Type")) == (200, "application/json; charset=utf-8")
    found: dict[str, Any] = json.loads(got.body)
    return found


async def until(admin: NodeClient, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The status, once something holds of it."""
    async with asyncio.timeout(WITHIN):
        while not holds(status := await document(admin)):  # noqa: ASYNC110 - the page is polled, as people do
            await asyncio.sleep(POLL)
    return status


@pytest.fixture(autouse=True)
def _nothing_unkept() -> None:
    """Metrics are those of the process: what other tests did to a disk is not reported here."""
    for reason in REASONS:
        CACHE_WRITE_ERROR_AT.labels(reason).set(0)


@pytest.fixture
async def proxy(registry: ScriptedRegistry, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy with a password and a cache."""
    configuration = settings([registry.url], login=LOGIN, cache={"path": str(tmp_path / "cache"), "maxSize": "1Gi"})
    async with started(configuration) as under_test:
        yield under_test


async def test_tells_of_hits_tokens_and_the_store(proxy: ProxyUnderTest, image: Image) -> None:
    before = (await document(proxy.admin))["figures"]
    for _ in range(3):
        assert (await proxy.node.get(manifest())).status == 200
        assert (await proxy.node.get(blob(layer_of(image)[0]))).status == 200
    status = await document(proxy.admin)
    after = status["figures"]
    assert after["requests"] - before["requests"] == 6
    assert after["saved_requests"] - before["saved_requests"] == 4
    assert after["saved_bytes"] > before["saved_bytes"]
    assert after["tokens"]["fetched"] - before["tokens"]["fetched"] == 1
    assert after["scopes"]["asked"] - before["scopes"]["asked"] == 1
    assert (status["store"]["objects"], status["store"]["limit"], status["store"]["trouble"]) == (2, 1 << 30, "")
    assert (status["level"], status["findings"], status["refusals"]) == ("ok", [], [])
    assert (status["process"]["ready"], status["process"]["draining"]) == (True, False)
    assert status["listeners"] == [{"address": status["listeners"][0]["address"], "tls": False, "auth": ["none"]}]


async def test_a_refusal_is_found_by_the_request_id_that_the_node_got(
    proxy: ProxyUnderTest, registry: ScriptedRegistry
) -> None:
    registry.script(on().with_header("Authorization").where(lambda call: call.kind != "token"), Reply(403))
    got = await proxy.node.get(manifest())
    assert got.status == 403
    (refusal,) = (await document(proxy.admin))["refusals"]
    assert refusal["request_id"] == got.error["detail"]["requestId"]
    assert refusal["image"] == f"{REG}/library/app:1"
    assert refusal["scope"] == f"repository:{UPSTREAM}:pull"
    assert refusal["rule"].startswith("rewritten by ^library/(.+)$ -> team/$1 (test.yaml:")
    assert refusal["reason"] == got.error["message"]
    assert refusal["address"] == "127.0.0.1"
    assert (await ask(proxy.admin, "/status")).body.decode().count(refusal["request_id"]) == 1


async def test_an_endpoint_that_fails_is_down_with_its_reason_and_up_again_when_it_answers(
    proxy: ProxyUnderTest, registry: ScriptedRegistry
) -> None:
    registry.script(on(kind="manifest"), Reply(500))
    assert (await proxy.node.get(manifest())).status == 503
    status = await document(proxy.admin)
    (upstream,) = status["upstreams"]
    health = upstream["endpoints"][0]["health"]
    assert (status["level"], upstream["level"], health["state"]) == ("bad", "bad", "cooling")
    assert health["error"] == f"{authority(registry.url)} answered 500"
    assert health["until"] > health["error_at"]
    assert REG in status["findings"][0]["text"]
    registry.behave()
    assert (await proxy.node.get(manifest("none"))).status == 404
    status = await document(proxy.admin)
    health = status["upstreams"][0]["endpoints"][0]["health"]
    assert (status["level"], health["state"], health["failures"]) == ("ok", "ok", 0)
    assert health["success_at"] > health["error_at"]


async def test_a_refusal_of_our_credentials_shows_at_the_endpoint(
    proxy: ProxyUnderTest, registry: ScriptedRegistry
) -> None:
    registry.script(on(kind="token"), Reply(401))
    assert (await proxy.node.get(manifest())).status == 403
    status = await document(proxy.admin)
    assert (status["level"], status["upstreams"][0]["endpoints"][0]["health"]["state"]) == ("ok", "refusing")
    for tag in ("2", "3"):
        assert (await proxy.node.get(manifest(tag))).status == 403
    status = await document(proxy.admin)
    assert (status["level"], status["upstreams"][0]["level"]) == ("bad", "bad")
    assert "3 refusals or unusable responses in a row" in status["findings"][0]["text"]


async def test_a_password_that_cannot_be_read_is_not_said_to_be_the_registrys(registry: ScriptedRegistry) -> None:
    login = {"username": "robot", "passwordFile": "/no/such/file"}
    async with started(settings([registry.url], login=login)) as proxy:
        assert (await proxy.node.get(manifest())).status == 503
        status = await document(proxy.admin)
    assert "is down" not in status["findings"][0]["text"]
    assert "/no/such/file" in status["findings"][0]["text"]
    assert status["refusals"][0]["advice"]


async def test_a_blob_that_is_cut_is_among_the_errors(proxy: ProxyUnderTest, registry: ScriptedRegistry) -> None:
    digest = registry.add_blob(UPSTREAM, Generated(2 * MIB, seed=61)).digest
    registry.script(on(kind="blob"), FlipByte("first"))
    assert not (await proxy.node.get(blob(digest))).whole
    (refusal,) = (await document(proxy.admin))["refusals"]
    assert (refusal["status"], refusal["code"], refusal["image"]) == (200, "CUT", f"{REG}/library/app@{digest}")
    assert refusal["reason"]


async def test_no_secret_stands_anywhere(proxy: ProxyUnderTest, registry: ScriptedRegistry) -> None:
    await proxy.node.get(manifest(), ("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ=="))
    registry.script(
        on(kind="blob"), Reply(307, headers={"Location": "http://u:canary@127.0.0.1:1/?X-Amz-Signature=canary"})
    )
    assert (await proxy.node.get(blob(f"sha256:{'1' * 64}"))).status >= 400
    for target in PATHS:
        for accept in (JSON, BROWSER):
            got = await ask(proxy.admin, target, accept)
            assert got.status == 200
            assert_no_secret(got.body.decode(), *(value for _, value in got.lines))
    assert "&lt;set&gt;" in (await ask(proxy.admin, "/status")).body.decode()


@pytest.mark.parametrize("target", PATHS)
async def test_headers_let_a_browser_do_nothing_else(proxy: ProxyUnderTest, target: str) -> None:
    got = await ask(proxy.admin, target)
    policy = got.header("Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    for element in ("style", "script"):
        for text in re.findall(f"<{element}>(.*?)</{element}>", got.body.decode(), re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{element}-src 'sha256-{digest}'" in policy
    assert got.header("Cache-Control") == "no-store"
    assert got.header("X-Content-Type-Options") == "nosniff"
    assert got.header("X-Frame-Options") == "DENY"
    assert got.header("Referrer-Policy") == "no-referrer"
    assert got.header("Server") == "scope-proxy"


@pytest.mark.parametrize("target", PATHS)
async def test_only_reading(proxy: ProxyUnderTest, target: str) -> None:
    assert (await ask(proxy.admin, target, method="HEAD")).status == 200
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert (await ask(proxy.admin, target, method=method)).status == 405


async def test_people_get_a_page_and_scripts_get_json(proxy: ProxyUnderTest) -> None:
    for target in ("/status", PATHS[2]):
        for accept, kind in ((JSON, "application/json"), (BROWSER, "text/html"), (("Accept", "*/*"), "text/html")):
            got = await ask(proxy.admin, target, accept)
            assert (got.header("Content-Type") or "").partition(";")[0] == kind
    assert json.loads((await ask(proxy.admin, "/status", JSON)).body).keys() == (await document(proxy.admin)).keys()


async def test_explains_an_image(proxy: ProxyUnderTest) -> None:
    page = (await ask(proxy.admin, PATHS[2])).body.decode()
    assert f"requested scope           repository:{UPSTREAM}:pull" in page
    assert f'value="{REG}/library/app:1"' in page
    data = json.loads((await ask(proxy.admin, PATHS[2], JSON)).body)
    assert data["endpoints"][0]["scope"] == f"repository:{UPSTREAM}:pull"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "enter an image name"),
        ("?image=no.example/a", "not configured"),
        ("?image=%3Cscript%3Ealert(1)%3C/script%3E", "NAME_INVALID"),
        ("?image=%FF%00", "NAME_INVALID"),
        (f"?image={'a' * 601}", "longer than"),
        (f"?image=a&client={'c' * 257}", "longer than"),
    ],
)
async def test_what_cannot_be_explained_is_400(proxy: ProxyUnderTest, query: str, words: str) -> None:
    got = await ask(proxy.admin, f"/status/explain{query}", BROWSER)
    assert (got.status, words in got.body.decode(), b"<script>alert" in got.body) == (400, True, False)
    got = await ask(proxy.admin, f"/status/explain{query}", JSON)
    error = json.loads(got.body)["error"]
    assert (got.status, words in f"{error['code']}: {error['reason']}") == (400, True)


async def test_a_store_that_cannot_be_used_is_reported_and_breaks_no_page(registry: ScriptedRegistry) -> None:
    async with started(settings([registry.url], login=LOGIN, cache={"path": "/proc/nowhere"})) as proxy:
        assert (await proxy.node.get(manifest())).status == 200
        status = await document(proxy.admin)
        assert (status["level"], status["store"]["bytes"]) == ("warning", None)
        assert status["store"]["trouble"] in status["findings"][0]["text"]
        assert (await ask(proxy.admin, "/status")).status == 200


async def test_a_cache_that_every_user_may_replace_is_a_finding(registry: ScriptedRegistry, tmp_path: Path) -> None:
    await asyncio.to_thread(tmp_path.chmod, 0o777)
    async with started(settings([registry.url], login=LOGIN, cache={"path": str(tmp_path)})) as proxy:
        assert (await proxy.node.get(manifest())).status == 200
        status = await document(proxy.admin)
        assert (status["level"], status["store"]["trouble"]) == ("warning", "")
        assert status["store"]["exposure"] in status["findings"][0]["text"]


async def test_a_full_disk_is_reported(proxy: ProxyUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    monkeypatch.setattr(os, "write", full)
    assert (await proxy.node.get(manifest())).status == 200
    monkeypatch.undo()
    status = await document(proxy.admin)
    assert (status["level"], status["unkept"]["reason"]) == ("warning", "enospc")
    assert [finding["level"] for finding in status["findings"]] == ["warning"]


async def test_settings_that_wait_for_a_restart_are_reported(registry: ScriptedRegistry, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(settings([registry.url])))
    origin = ConfigSource(lambda: load_config(file), (), (), watches=False)
    async with running(await asyncio.to_thread(load_config, file), origin=origin) as state:
        assert state.admin_address is not None
        admin = NodeClient(state.admin_address)
        assert (await document(admin))["waiting"] == []
        workers = (await document(admin))["process"]["workers"]
        file.write_text(json.dumps({**settings([registry.url]), "workers": 3}))
        await state.reloader.reload()
        status = await document(admin)
        assert (status["level"], status["waiting"], status["process"]["workers"]) == ("warning", ["workers"], workers)
        assert "workers" in status["findings"][0]["text"]


async def test_files_of_a_listener_that_cannot_be_used_are_reported_until_they_can(
    registry: ScriptedRegistry, tmp_path: Path
) -> None:
    pair, files = trustme.CA().issue_cert("127.0.0.1"), (tmp_path / "tls.crt", tmp_path / "tls.key")
    files[0].write_bytes(b"".join(pem.bytes() for pem in pair.cert_chain_pems))
    files[1].write_bytes(pair.private_key_pem.bytes())
    tls = {"certFile": str(files[0]), "keyFile": str(files[1])}
    listener = {"address": "127.0.0.1:0", "tls": tls}
    configuration = settings([registry.url]) | {"listeners": [listener]}
    async with started(configuration, tuning=server_tuning(tls_reload=0.02)) as proxy:
        assert (await document(proxy.admin))["tls_problems"] == []
        files[1].unlink()
        status = await until(proxy.admin, lambda found: found["tls_problems"])
        assert str(files[1]) in status["findings"][0]["text"]
        files[1].write_bytes(pair.private_key_pem.bytes())
        assert (await until(proxy.admin, lambda found: not found["tls_problems"]))["level"] == "ok"


async def test_lines_that_do_not_count_in_a_file_of_users_are_reported_and_a_file_that_is_removed(
    registry: ScriptedRegistry, tmp_path: Path
) -> None:
    file = tmp_path / "users"
    good = f"alice:{bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}\n"
    file.write_text(f"{good}bob:canary-plain\n")
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "basic", "htpasswdFile": str(file)}}
    async with started(settings([registry.url], listeners=[listener])) as proxy:

        async def after_a_look(holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            async with asyncio.timeout(WITHIN):
                while True:
                    assert (await proxy.node.get("/v2/")).status == 401
                    await proxy.node.get("/v2/", ("Authorization", "Basic YTpi"))
                    if holds(found := await document(proxy.admin)):
                        return found
                    await asyncio.sleep(POLL)

        status = await document(proxy.admin)
        [users] = status["client_files"]
        assert (users["setting"], users["file"], users["count"], users["trouble"]) == ("htpasswdFile", str(file), 1, "")
        assert users["problems"][0].startswith(f"{file}:2: the password is not hashed with bcrypt")
        assert (status["level"], f"{file}:2: " in status["findings"][0]["text"]) == ("warning", True)
        file.write_text(good)
        assert (await after_a_look(lambda found: not found["client_files"][0]["problems"]))["level"] == "ok"
        file.unlink()
        status = await after_a_look(lambda found: found["level"] == "bad")
        assert "No such file" in status["client_files"][0]["trouble"]
        assert "htpasswdFile is unusable" in status["findings"][0]["text"]


async def test_a_configuration_that_is_not_taken_is_reported_with_its_places(
    registry: ScriptedRegistry, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(settings([registry.url])))
    origin = ConfigSource(lambda: load_config(file), (), (), watches=False)
    async with running(await asyncio.to_thread(load_config, file), origin=origin) as state:
        assert state.admin_address is not None
        admin = NodeClient(state.admin_address)
        assert (await document(admin))["reload"] is None
        file.write_text("version: 1\nregistri: {}\n")
        await state.reloader.reload()
        status = await document(admin)
        (problem,) = status["reload"]["problems"]
        assert problem.startswith(f"{file}:2:1: ")
        assert (status["level"], problem in status["findings"][0]["text"]) == ("warning", True)
        assert REG in status["configuration"]
        file.write_text(json.dumps(settings([registry.url], registries={"new.example": {}})))
        await state.reloader.reload()
        status = await document(admin)
        assert (status["level"], status["reload"]["problems"]) == ("ok", [])
        assert [upstream["name"] for upstream in status["upstreams"]] == ["new.example"]


async def test_many_who_ask_at_once_all_get_the_page(proxy: ProxyUnderTest) -> None:
    targets = (PATHS * REQUESTS)[:REQUESTS]  # beyond that it is a flood: see tests/security/test_admin_floods.py
    pages = await asyncio.gather(*(ask(proxy.admin, target) for target in targets))
    assert {page.status for page in pages} == {200}
