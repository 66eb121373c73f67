import asyncio
from pathlib import Path
from textwrap import dedent, indent

import pytest

from proxy.auth.outward.credential_chain import StaticSource
from proxy.auth.outward.credentials import CredentialError, DockerConfigSource, HelperSource
from proxy.config.address import Origin
from proxy.config.credentials import SecretReader
from proxy.config.load import parse_config
from proxy.oci.login import Login, LoginKind
from proxy.transport.singleflight import Background

ORIGIN = Origin.parse("https://r.example")


def source(credentials: str, environment: dict[str, str] | None = None) -> StaticSource:
    text = "version: 1\nhosts:\n  r.example:\n    credentials:\n" + indent(dedent(credentials).strip("\n"), " " * 6)
    config = parse_config(text, "c.yaml").config
    helpers = HelperSource(Background())
    named = [item.docker_config_file for item in config.hosts["r.example"].credentials]
    files = {name: DockerConfigSource(Path(name), helpers) for name in named if name is not None}
    return StaticSource(config, SecretReader(environment or {}), helpers, files)


async def logins_of(credentials: str, repository: str = "a", environment: dict[str, str] | None = None) -> list[Login]:
    made = await asyncio.to_thread(source, credentials, environment)
    return list(await made.logins(ORIGIN, repository))


async def test_the_longest_match_comes_first_and_the_others_follow() -> None:
    credentials = """
    - {username: everywhere, password: p}
    - {username: one, password: p, repositories: 'team/*'}
    - {username: all, password: p, repositories: 'team/**'}
    - {username: exact, password: p, repositories: team/app}
    - {username: other, password: p, repositories: 'other/**'}
    """
    assert [login.username for login in await logins_of(credentials, "team/app")] == [
        "exact",
        "one",
        "all",
        "everywhere",
    ]
    assert [login.username for login in await logins_of(credentials, "team/a/b")] == ["all", "everywhere"]
    assert [login.username for login in await logins_of(credentials, "team")] == ["all", "everywhere"]
    assert [login.username for login in await logins_of(credentials, "x")] == ["everywhere"]


async def test_passwords_tokens_files_and_variables() -> None:
    (password,) = await logins_of("    - {username: robot, password: p}")
    assert (password.kind, password.username, password.secret) == (LoginKind.PASSWORD, "robot", "p")
    (token,) = await logins_of("    - {identityToken: t}")
    assert (token.kind, token.username, token.secret) == (LoginKind.IDENTITY_TOKEN, "", "t")
    (variable,) = await logins_of("    - {username: robot, passwordEnv: PW}", environment={"PW": "v"})
    assert variable.secret == "v"


async def test_a_password_file_is_read_again_after_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    made = await asyncio.to_thread(source, f"    - {{username: robot, passwordFile: {file}}}")
    assert [login.secret for login in await made.logins(ORIGIN, "a")] == ["old"]
    (tmp_path / "new").write_text("new\n")
    (tmp_path / "new").replace(file)
    assert [login.secret for login in await made.logins(ORIGIN, "a")] == ["new"]


@pytest.mark.parametrize(
    "credential", ["{username: robot, passwordFile: /nowhere/password}", "{username: robot, passwordEnv: UNSET}"]
)
async def test_a_secret_that_is_missing_names_the_host_and_the_setting(credential: str) -> None:
    with pytest.raises(CredentialError, match=r"hosts\.r\.example\.credentials: password(File|Env)"):
        await logins_of(f"    - {credential}")


async def test_a_docker_config_file_can_be_named_for_some_repositories(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"auths": {"r.example": {"username": "docker", "password": "p"}}}')
    credentials = f"""
    - {{username: robot, password: p}}
    - {{dockerConfigFile: {file}, repositories: 'team/**'}}
    """
    assert [login.username for login in await logins_of(credentials, "team/a")] == ["docker", "robot"]
    assert [login.username for login in await logins_of(credentials, "b")] == ["robot"]


async def test_a_host_without_credentials_has_none() -> None:
    made = await asyncio.to_thread(source, "    - {username: robot, password: p}")
    assert await made.logins(Origin.parse("https://r.example:8443"), "a") == []
    assert await made.logins(Origin.parse("https://other.example"), "a") == []
