import base64
import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.outward.credentials import CredentialError, DockerConfigSource, HelperSource, _parse
from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.transport.singleflight import Background


def login(name: str) -> dict[str, str]:
    return {"username": name, "password": "s3cret"}


def made(path: Path, content: object) -> DockerConfigSource:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return DockerConfigSource(path, HelperSource(Background()))


async def logins_of(
    tmp_path: Path, content: object, url: str = "https://r.example", repository: str = "a"
) -> list[Login]:
    return list(await made(tmp_path / "config.json", content).logins(Origin.parse(url), repository))


async def users(tmp_path: Path, auths: object, url: str, repository: str = "a") -> list[str]:
    return [found.username for found in await logins_of(tmp_path, {"auths": auths}, url, repository)]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("entry", "kind", "username", "secret"),
    [
        ({"auth": encoded("robot:s3:cret")}, LoginKind.PASSWORD, "robot", "s3:cret"),
        ({"auth": encoded("robot:s3cret\0\0")}, LoginKind.PASSWORD, "robot", "s3cret"),
        ({"username": "robot", "password": "pässword"}, LoginKind.PASSWORD, "robot", "pässword"),
        ({"username": "x", "password": "y", "auth": encoded("robot:new")}, LoginKind.PASSWORD, "robot", "new"),
        ({"auth": encoded("<token>:"), "identitytoken": "refresh"}, LoginKind.IDENTITY_TOKEN, "<token>", "refresh"),
    ],
)
async def test_entries_are_read(
    tmp_path: Path, entry: dict[str, str], kind: LoginKind, username: str, secret: str
) -> None:
    (found,) = await logins_of(tmp_path, {"auths": {"r.example": entry}})
    assert (found.kind, found.username, found.secret) == (kind, username, secret)
    assert found.name == f"{tmp_path}/config.json auths[r.example]"


@pytest.mark.parametrize(
    "entry",
    [{}, {"username": "robot"}, {"password": "p"}, {"auth": ""}, {"auth": encoded("robot")}, {"auth": 7}, None, "x"],
)
async def test_entries_without_a_login_are_passed_over(tmp_path: Path, entry: object) -> None:
    assert await logins_of(tmp_path, {"auths": {"r.example": entry}}) == []


async def test_half_a_surrogate_pair_is_no_password(tmp_path: Path) -> None:
    content = b'{"auths": {"r.example": {"username": "robot", "password": "\\ud800"}}}'
    assert await logins_of(tmp_path, content) == []


@pytest.mark.parametrize(
    ("key", "url", "matches"),
    [
        ("r.example", "https://r.example", True),
        ("R.Example", "https://r.example", True),
        ("https://r.example", "https://r.example", True),
        ("http://r.example/v2/", "https://r.example", True),
        ("https://r.example/v1/", "https://r.example", True),
        ("r.example:443", "https://r.example", True),
        ("r.example:5000", "https://r.example:5000", True),
        ("r.example", "https://r.example:5000", False),
        ("r.example:5000", "https://r.example", False),
        ("other.example", "https://r.example", False),
        ("*.example", "https://r.example", True),
        ("*.*.example", "https://a.b.example", True),
        ("*.example", "https://a.b.example", False),
        ("*.example", "https://example", False),
        ("*", "https://r.example", False),
        ("*.example:5000", "https://r.example:5000", True),
        ("r?example", "https://r.example", False),
        ("https://index.docker.io/v1/", "https://registry-1.docker.io", True),
        ("docker.io", "https://registry-1.docker.io", True),
        ("registry-1.docker.io", "https://index.docker.io", True),
        ("docker.io", "https://r.example", False),
    ],
)
async def test_keys_name_hosts_as_docker_and_the_kubelet_read_them(
    tmp_path: Path, key: str, url: str, matches: bool
) -> None:
    assert await users(tmp_path, {key: login("robot")}, url) == ["robot"] * matches


async def test_the_longest_path_comes_first_by_whole_segments(tmp_path: Path) -> None:
    auths = {
        key: login(key) for key in ("r.example", "r.example/team/app", "r.example/team", "*.example/te", "r.example/x")
    }
    found = await users(tmp_path, auths, "https://r.example", "team/app")
    assert found == ["r.example/team/app", "r.example/team", "r.example"]
    assert await users(tmp_path, auths, "https://r.example", "teams") == ["r.example"]


async def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    source = made(path, {"auths": {"r.example": login("old")}})
    origin = Origin.parse("https://r.example")
    assert [found.username for found in await source.logins(origin, "a")] == ["old"]
    made(tmp_path / "new", {"auths": {"r.example": login("new")}})
    (tmp_path / "new").replace(path)
    assert [found.username for found in await source.logins(origin, "a")] == ["new"]


async def test_an_unchanged_file_is_parsed_once(tmp_path: Path) -> None:
    source = made(tmp_path / "config.json", {"auths": {"r.example": login("robot")}})
    origin = Origin.parse("https://r.example")
    first, *others = [(await source.logins(origin, "a"))[0] for _ in range(3)]
    assert all(other is first for other in others)


async def test_the_link_that_kubernetes_swaps_is_followed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        made(tmp_path / name / ".dockerconfigjson", {"auths": {"r.example": login(name)}})
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / ".dockerconfigjson").symlink_to("..data/.dockerconfigjson")
    source = DockerConfigSource(tmp_path / ".dockerconfigjson", HelperSource(Background()))
    origin = Origin.parse("https://r.example")
    assert [found.username for found in await source.logins(origin, "a")] == ["old"]
    (tmp_path / "..tmp").symlink_to("new")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    assert [found.username for found in await source.logins(origin, "a")] == ["new"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe s3cret", "is not JSON"),
        (b"{s3cret", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (["s3cret"], "has no object `auths`"),
        ({"auths": None}, "has no object `auths`"),
        ({"auths": ["s3cret"]}, "has no object `auths`"),
        ({"auths": {"r.example": {"auth": "s3cret!"}}}, "not base64"),
        ({"auths": {"r.example": {"auth": "s3crét"}}}, "not base64"),
        ({"auths": {"r.example": {"auth": base64.b64encode(b"robot:\xff").decode()}}}, "not base64"),
    ],
)
async def test_a_malformed_file_is_an_error_without_its_secrets(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(CredentialError, match=message) as caught:
        await logins_of(tmp_path, content)
    assert "s3cr" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


async def test_what_is_no_readable_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    origin = Origin.parse("https://r.example")
    for path, message in (
        ("missing", "No such file"),
        (".", "Is a directory"),
        ("pipe", "not a regular file"),
        ("\0", "name"),
    ):
        with pytest.raises(CredentialError, match=message):
            await DockerConfigSource(tmp_path / path, HelperSource(Background())).logins(origin, "a")
    (tmp_path / "long").write_text('{"auths": {}}')
    with pytest.raises(CredentialError, match="larger than 10 bytes"):
        await DockerConfigSource(tmp_path / "long", HelperSource(Background()), size_limit=10).logins(origin, "a")


@pytest.mark.parametrize(
    ("settings", "program"),
    [
        ({"credHelpers": {"r.example": "one"}, "credsStore": "two"}, "one"),
        ({"credHelpers": {"other.example": "one"}, "credsStore": "two"}, "two"),
        ({"credHelpers": {"https://R.example": "one"}}, "one"),
        ({"credHelpers": ["one"], "credsStore": "two"}, "two"),
    ],
)
async def test_helpers_of_the_file_are_run(tmp_path: Path, settings: dict[str, object], program: str) -> None:
    with pytest.raises(CredentialError, match=f"cannot run docker-credential-{program}:"):
        await logins_of(tmp_path, settings)


@pytest.mark.parametrize("name", ["../evil", "a/b", "\0", " x", "-x", "x" * 200])
async def test_what_is_no_name_of_a_program_is_not_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(CredentialError, match="not a valid name of a credential helper"):
        await logins_of(tmp_path, {"credsStore": name})


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b'{"auths": {"a": {"auth": "' + tail))
def test_no_bytes_raise_anything_but_credential_error(content: bytes) -> None:
    with contextlib.suppress(CredentialError):
        assert all(entry.login.identity for entry in _parse(Path("f"), content, (0, 0, 0, 0)).entries)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["auths", "auth", "username", "password", "credHelpers", "r.example"]), inner)
    ),
    max_leaves=8,
)


@given(JSON)
def test_no_json_raises_anything_but_credential_error(document: object) -> None:
    with contextlib.suppress(CredentialError):
        found = _parse(Path("f"), json.dumps(document).encode(), (0, 0, 0, 0))
        assert all(entry.login.identity for entry in found.entries)
