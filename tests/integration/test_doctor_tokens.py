"""`scope-proxy doctor` against the scripted registry: verdicts on tokens and credentials."""

import base64
import json
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.canaries import IDENTITY_TOKEN, PASSWORD
from tests.fakes.changes import Reply
from tests.fakes.doctor import IMAGE, diagnosed, examined
from tests.fakes.matching import on
from tests.fakes.proxy import ACCOUNT, LOGIN, SCOPE, UPSTREAM, authority, settings
from tests.fakes.registry import ScriptedRegistry

OF_TOKENS = ("token", "unknown scope", "push scope")


def credentials(registry: ScriptedRegistry) -> set[str]:
    return {entry.credential for entry in registry.record.all()}


@pytest.mark.parametrize("status", [404, 401, 403, 500])
async def test_strict_token_servers_are_known_by_their_status(image: Image, status: int) -> None:
    async with ScriptedRegistry([image], Rules(refuse=status, accounts=(ACCOUNT,))) as registry:
        found = await examined(registry)
    finding = found.of("unknown scope")
    assert (finding.outcome, finding.facts) == ("passed", {"verdict": "strict", "status": status})
    assert found.of("push scope").facts == {"verdict": "refused", "status": status}
    assert found.status == 0


async def test_a_tolerant_token_server_is_known(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(refuse=None, accounts=(ACCOUNT,))) as registry:
        found = await examined(registry)
    assert found.of("unknown scope").facts == {"verdict": "tolerant", "status": 200}
    assert found.of("push scope").facts == {"verdict": "unknown", "status": 200}  # its tokens are opaque
    assert found.of("push scope").outcome == "skipped"


async def test_a_token_server_that_fails_now_is_not_called_strict(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="token").starting(2), Reply(503))
    finding = (await examined(registry)).of("unknown scope")
    assert finding.outcome == "warned"
    assert "undecided" in finding.seen


async def test_a_server_that_accepts_only_forms_gets_forms(registry: ScriptedRegistry) -> None:
    registry.script(on("GET", "token"), Reply(404))
    found = await examined(registry)
    assert found.of("token").outcome == "passed"
    assert found.of("unknown scope").facts["verdict"] == "strict"
    (alone, both, push) = (entry.scope_parameters for entry in registry.record.tokens if entry.method == "POST")
    assert alone == (SCOPE,)
    assert both[0].startswith(f"{SCOPE} repository:scope-proxy-doctor-")
    assert push == (f"repository:{UPSTREAM}:pull,push",)


def jwt(*actions: str) -> dict[str, str]:
    claims = {"access": [{"type": "repository", "name": UPSTREAM, "actions": actions}]}
    return {"token": f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.canary"}


@pytest.mark.parametrize(
    ("actions", "verdict", "outcome"),
    [(("pull",), "narrowed", "passed"), (("pull", "push"), "granted", "warned"), ((), "narrowed", "passed")],
)
async def test_push_that_is_narrowed_or_granted(
    registry: ScriptedRegistry, actions: tuple[str, ...], verdict: str, outcome: str
) -> None:
    registry.script(
        on(kind="token").where(lambda call: "push" in call.value("scope")), Reply(200, document=jwt(*actions))
    )
    finding = (await examined(registry)).of("push scope")
    assert (finding.outcome, finding.facts["verdict"]) == (outcome, verdict)


async def test_a_token_that_grants_nothing_is_reported(registry: ScriptedRegistry) -> None:
    registry.script(on(kind="token"), Reply(200, document=jwt()))
    finding = (await examined(registry)).of("token")
    assert finding.outcome == "warned"
    assert "grants nothing" in finding.seen


async def test_a_registry_with_basic_gets_the_password(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(dialect="basic", accounts=(ACCOUNT,))) as registry:
        found = await examined(registry)
        assert (found.status, found.failed()) == (0, set())
        assert {found.outcomes()[check] for check in OF_TOKENS} == {"skipped"}
        assert found.of("manifest head").outcome == "passed"
        assert (await examined(registry, authority(registry.url))).of("login").outcome == "passed"


async def test_a_registry_that_wants_nothing_is_sent_nothing(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(dialect="none")) as registry:
        found = await examined(registry)
        assert (found.status, found.failed()) == (0, set())
        assert {found.outcomes()[check] for check in ("realm", *OF_TOKENS)} == {"skipped"}
        assert credentials(registry) == {"anonymous"}


async def test_an_anonymous_pull(image: Image) -> None:
    async with ScriptedRegistry([image]) as registry:
        found = await diagnosed(settings([registry.url]), IMAGE)
    assert found.status == 0
    assert "none is configured" in found.of("credential").seen
    assert found.of("token").facts["credential"] == "no credentials"


@pytest.mark.parametrize("what", [IMAGE, None])
async def test_an_untrusted_token_server_gets_nothing_and_the_line_to_add_is_reported(
    image: Image, what: str | None
) -> None:
    async with (
        ScriptedRegistry([image], Rules(accounts=(ACCOUNT,))) as other,
        ScriptedRegistry([image], Rules(accounts=(ACCOUNT,), realm=f"{other.url}/token")) as registry,
    ):
        configuration = settings([registry.url], login=LOGIN)
        found = await diagnosed(configuration, *([what] if what else []))
        assert found.status == 1
        assert found.failed() == {"realm"}
        assert f'hosts."{authority(registry.url)}".realms: [{other.url}]' in found.of("realm").advice
        assert other.record.all() == ()
        assert credentials(registry) == {"anonymous"}
        trusting = settings([registry.url], login=LOGIN, host={"realms": [other.url]})
        assert "listed in realms" in (await diagnosed(trusting)).of("realm").seen
        assert len(other.record.all()) == 1


async def test_a_wrong_password_is_reported_with_and_without_an_image(registry: ScriptedRegistry) -> None:
    wrong = settings([registry.url], login={**LOGIN, "password": "canary-wrong"})
    found = await diagnosed(wrong, IMAGE)
    assert (found.status, found.failed()) == (1, {"token"})
    assert found.of("token").facts["status"] == 401
    found = await diagnosed(wrong)
    assert (found.status, found.failed()) == (1, {"login"})
    assert len(registry.record.tokens) == 2  # once each: nobody's account is locked by it


async def test_the_next_credential_is_tried_as_a_pull_does(registry: ScriptedRegistry) -> None:
    both = [{**LOGIN, "username": "gone", "repositories": "team/**"}, LOGIN]
    found = await diagnosed(settings([registry.url], login=both), IMAGE)
    assert found.status == 0
    assert [finding.outcome for finding in found.all("token")] == ["warned", "passed"]
    assert [finding.facts["name"] for finding in found.all("credential")] == ["gone (for team/**)", "robot"]


async def test_an_identity_token_is_used(registry: ScriptedRegistry) -> None:
    found = await diagnosed(settings([registry.url], login={"identityToken": IDENTITY_TOKEN}), IMAGE)
    assert found.status == 0
    assert {entry.credential for entry in registry.record.tokens} == {"refresh-token"}


async def test_credentials_that_cannot_be_had_or_are_for_others(registry: ScriptedRegistry) -> None:
    missing = settings([registry.url], login={"username": "robot", "passwordFile": "/no/such/file"})
    assert (await diagnosed(missing)).failed() == {"credential"}
    found = await diagnosed(missing, IMAGE)
    assert found.failed() == {"credential"}
    assert "passwordFile: /no/such/file: " in found.of("credential").seen
    assert found.of("token").outcome == "skipped"
    assert "cannot read the credential" in found.of("token").seen
    others = settings([registry.url], login={**LOGIN, "repositories": "others/**"})
    finding = (await diagnosed(others, IMAGE)).of("credential")
    assert finding.outcome == "warned"
    assert "none of the 1 credentials" in finding.seen


async def test_a_password_that_cannot_be_read_is_the_one_failure_with_basic_too(image: Image) -> None:
    missing = {"username": "robot", "passwordFile": "/no/such/file"}
    async with ScriptedRegistry([image], Rules(dialect="basic", accounts=(ACCOUNT,))) as registry:
        assert (await diagnosed(settings([registry.url], login=missing), IMAGE)).failed() == {"credential"}
        assert (await diagnosed(settings([registry.url]), IMAGE)).failed() == {"manifest head"}


async def test_docker_config_files_are_looked_into(registry: ScriptedRegistry, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    entry = {"username": ACCOUNT.username, "password": PASSWORD}
    file.write_text(json.dumps({"auths": {authority(registry.url): entry}}))
    found = await diagnosed(settings([registry.url], dockerConfigFiles=[str(file)]), IMAGE)
    assert found.status == 0
    assert found.of("credential").facts["name"] == f"{file} auths[{authority(registry.url)}]"
    file.write_text(json.dumps({"auths": {"elsewhere.example": entry}}))
    finding = (await diagnosed(settings([registry.url], dockerConfigFiles=[str(file)]), IMAGE)).of("credential")
    assert (finding.outcome, "has no entry" in finding.seen) == ("skipped", True)


async def test_basic_can_be_forced(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(dialect="basic", accounts=(ACCOUNT,))) as registry:
        found = await examined(registry, host={"tokenMethod": "basic"})
        assert found.status == 0
        assert "tokenMethod is basic" in found.of("repository challenge").seen
