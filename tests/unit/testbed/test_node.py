import pytest

from proxy.testbed.images import Image, demo_images, make_image
from proxy.testbed.node import pull
from proxy.testbed.node_values import NodeLogin, PullFailed, PullTarget
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Account, Rules
from tests.fakes.changes import Challenge, DropHeader, FlipByte, Redirect, Reply
from tests.fakes.interrupts import Cut
from tests.fakes.matching import on
from tests.fakes.registry import ScriptedRegistry

ORIGINAL = "cp/se-data-center-edge/mini-test"
REWRITTEN = "se-next-gen-docker-local/mini-test"
BOTH = (f"repository:{ORIGINAL}:pull", f"repository:{REWRITTEN}:pull")
ROBOT = Rules(accounts=(Account("robot", "hunter2"),))
LOGIN = NodeLogin("robot", "hunter2")


def target(registry: StrictRegistry, image: Image | None = None, *, original: str = ORIGINAL) -> PullTarget:
    found = image or demo_images()[0]
    return PullTarget(registry.url, "cp.icr.io", original, found.tag, rewritten=found.repository)


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(404, "Not Found"), (401, "Unauthorized"), (403, "Forbidden"), (500, "Internal Server Error")],
)
async def test_an_anonymous_pull_fails_at_a_strict_registry(status: int, phrase: str) -> None:
    async with StrictRegistry(demo_images(), Rules(refuse=status)) as registry:
        with pytest.raises(PullFailed) as failure:
            await pull(target(registry))
        assert [entry.scope_parameters for entry in registry.record.tokens] == [BOTH]
    assert [step.status for step in failure.value.steps] == [401, status]
    assert failure.value.step is not None
    assert failure.value.step.scopes == BOTH
    assert str(failure.value).startswith(
        'failed to pull and unpack image "cp.icr.io/cp/se-data-center-edge/mini-test:1"'
    )
    assert str(failure.value).endswith(
        f"{registry.url}{failure.value.step.line.removeprefix('GET ')}: {status} {phrase}"
    )
    assert "failed to authorize: failed to fetch anonymous token: unexpected status from GET request" in str(
        failure.value
    )


@pytest.mark.parametrize(("status", "credentials"), [(404, 2), (401, 2), (403, 1), (500, 1)])
async def test_with_credentials_the_form_comes_first(status: int, credentials: int) -> None:
    rules = Rules(refuse=status, accounts=ROBOT.accounts)
    async with StrictRegistry(demo_images(), rules) as registry:
        with pytest.raises(PullFailed, match="failed to fetch oauth token"):
            await pull(target(registry), LOGIN)
        requests = registry.record.tokens
    assert [entry.credential for entry in requests] == ["password robot", "basic robot"][:credentials]
    assert [entry.scope_parameters for entry in requests] == [(" ".join(BOTH),), BOTH][:credentials]
    assert "hunter2" not in repr(requests)


async def test_a_prefix_mirror_fails_too() -> None:
    image = make_image("project/library/app", "1")
    async with StrictRegistry([image]) as registry:
        with pytest.raises(PullFailed):
            await pull(PullTarget(f"{registry.url}/v2/project", "docker.io", "library/app", "1"))
        scopes = ("repository:library/app:pull", "repository:project/library/app:pull")
        assert registry.record.tokens[0].scopes == scopes


@pytest.mark.parametrize("image", demo_images(), ids=lambda image: image.repository)
@pytest.mark.parametrize("login", [None, LOGIN])
async def test_a_tolerant_registry_is_pulled_byte_by_byte(image: Image, login: NodeLogin | None) -> None:
    rules = Rules(refuse=None, accounts=ROBOT.accounts if login else ())
    async with StrictRegistry(demo_images(), rules) as registry:
        result = await pull(target(registry, image), login)
        assert len(registry.record.tokens) == 2  # one for resolve, one for fetch
    last = image.platforms[0] if image.platforms else image
    assert result.digest == image.digest
    assert dict(result.manifests) == {image.digest: image.manifest, last.digest: last.manifest}
    assert dict(result.blobs) == dict(last.blobs)
    expected = {len(body) for body in (image.manifest, last.manifest)}
    assert result.received == sum(expected) + sum(map(len, last.blobs.values()))


async def test_an_image_under_its_own_name_pulls_with_one_scope() -> None:
    async with StrictRegistry(demo_images()) as registry:
        await pull(target(registry, original=REWRITTEN))
        assert registry.record.scopes == {f"repository:{REWRITTEN}:pull"}


async def test_without_a_challenge_nothing_is_requested_and_no_credential_sent() -> None:
    async with StrictRegistry(demo_images(), Rules(dialect="none")) as registry:
        result = await pull(target(registry), LOGIN)
        assert not result.scopes
        assert {entry.credential for entry in registry.record.all()} == {"anonymous"}
        first = registry.record.all()[0]
    assert (first.method, dict(first.query)) == ("HEAD", {"ns": "cp.icr.io"})
    assert first.headers["accept"].endswith("application/vnd.oci.image.index.v1+json, */*")
    assert [step.method for step in result.steps] == ["HEAD", "GET", "GET", "GET"]


async def test_basic_registries() -> None:
    async with StrictRegistry(demo_images(), Rules(dialect="basic", accounts=ROBOT.accounts)) as registry:
        assert (await pull(target(registry), LOGIN)).received > 0
        with pytest.raises(PullFailed, match="no basic auth credentials"):
            await pull(target(registry), NodeLogin("", "identity"))
        with pytest.raises(PullFailed, match="401 Unauthorized"):
            await pull(target(registry))


async def test_a_refused_token_is_renewed_once_when_the_reason_is_given() -> None:
    async with ScriptedRegistry(demo_images(), Rules(refuse=None)) as registry:
        line = f'Bearer realm="{registry.realm}",scope="{BOTH[1]}",error="invalid_token"'
        refusal = Challenge((line,))
        registry.script(on(kind="blob").times(1), refusal)
        assert (await pull(target(registry))).received > 0
        registry.script(on(kind="blob"), refusal)
        with pytest.raises(PullFailed, match="server message: invalid_token: authorization failed"):
            await pull(target(registry))


async def test_without_a_reason_the_same_token_is_sent_until_six_answers() -> None:
    async with ScriptedRegistry(demo_images(), Rules(refuse=None)) as registry:
        registry.script(on("HEAD", "manifest"), Challenge((f'Bearer realm="{registry.realm}"',)))
        with pytest.raises(PullFailed, match="401 Unauthorized"):
            await pull(target(registry))
        assert (len(registry.record.of("manifest")), len(registry.record.tokens)) == (6, 1)


@pytest.mark.parametrize("status", [429, 408])
async def test_a_busy_registry_gets_six_requests_at_once(status: int) -> None:
    async with ScriptedRegistry(demo_images(), Rules(dialect="none")) as registry:
        registry.script(on("HEAD"), Reply(status))
        with pytest.raises(PullFailed, match=str(status)):
            await pull(target(registry))
        assert len(registry.record.all()) == 6


async def test_the_reason_phrase_is_what_the_user_sees() -> None:
    async with ScriptedRegistry(demo_images(), Rules(dialect="none")) as registry:
        registry.script(on("HEAD"), Reply(403, reason="registry cp.icr.io is not configured"))
        with pytest.raises(PullFailed, match=r"403 registry cp\.icr\.io is not configured"):
            await pull(target(registry))


async def test_an_unknown_image_is_not_found() -> None:
    async with StrictRegistry(demo_images(), Rules(dialect="none")) as registry:
        with pytest.raises(PullFailed, match=r"cp.icr.io/cp/none:1: not found"):
            await pull(PullTarget(registry.url, "cp.icr.io", "cp/none", "1"))


async def test_wrong_bytes_and_short_bodies_fail() -> None:
    async with ScriptedRegistry(demo_images(), Rules(dialect="none")) as registry:
        registry.script(on("GET", "blob").nth(1), FlipByte())
        registry.script(on("GET", "blob").nth(2), Cut(after=5))
        with pytest.raises(PullFailed, match="unexpected commit digest"):
            await pull(target(registry))
        with pytest.raises(PullFailed, match="unexpected EOF"):
            await pull(target(registry))


async def test_a_missing_digest_header_costs_one_more_get() -> None:
    async with ScriptedRegistry(demo_images(), Rules(dialect="none")) as registry:
        registry.script(on("HEAD"), DropHeader("Docker-Content-Digest"))
        result = await pull(target(registry))
        assert result.digest == demo_images()[0].digest
        assert [step.method for step in result.steps] == ["HEAD", "GET", "GET", "GET", "GET"]


async def test_redirects_are_followed_and_the_token_goes_along_to_another_port() -> None:
    image = demo_images()[0]
    async with (
        ScriptedRegistry([image], Rules(refuse=None)) as registry,
        ScriptedRegistry([image], Rules(dialect="none")) as other,
    ):
        registry.script(on("GET", "blob"), Redirect(lambda call: f"{other.url}{call.path}"))
        assert dict((await pull(target(registry))).blobs) == dict(image.blobs)
        assert {entry.credential for entry in other.record.of("blob")} == {"bearer unknown"}


async def test_nobody_listens() -> None:
    async with StrictRegistry() as registry:
        url = registry.url
    with pytest.raises(PullFailed, match="failed to do request") as failure:
        await pull(PullTarget(url, "cp.icr.io", ORIGINAL, "1"))
    assert failure.value.step is None
