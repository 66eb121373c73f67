import os
from pathlib import Path

import pytest

from proxy.config.credentials import MAX_SECRET_SIZE, SecretError, SecretReader
from proxy.config.load import check_secrets, parse_config
from proxy.config.model import Credential


def by_file(path: Path | str) -> Credential:
    return Credential.model_validate({"username": "robot", "passwordFile": str(path)})


def value(credential: Credential, reader: SecretReader | None = None) -> str:
    secret = (reader or SecretReader()).read(credential)
    assert secret is not None
    return secret.value


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"hunter2", "hunter2"), (b"hunter2\n", "hunter2"), (b"hunter2\r\n", "hunter2"), (b" a \n\n", " a \n")],
)
def test_one_trailing_newline_is_no_part_of_a_secret(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(content)
    assert value(by_file(tmp_path / "password")) == expected


def test_secrets_come_from_places_and_variables_as_well() -> None:
    reader = SecretReader({"TOKEN": "hunter2"})
    assert value(Credential.model_validate({"identityTokenEnv": "TOKEN"}), reader) == "hunter2"
    assert value(Credential.model_validate({"username": "a", "password": "hunter2"}), reader) == "hunter2"
    assert SecretReader().read(Credential.model_validate({"helper": "pass"})) is None


def test_a_secret_shows_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    secret = SecretReader().read(by_file(tmp_path / "password"))
    assert secret is not None
    assert "hunter2" not in f"{secret} {secret!r}"
    assert secret.setting == "passwordFile"


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path, reader = tmp_path / "password", SecretReader()
    path.write_text("first")
    assert value(by_file(path), reader) == "first"
    status = path.stat()
    path.write_text("FIRST")  # same size, and then the same time: nothing shows the change
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert value(by_file(path), reader) == "first"
    other = tmp_path / "new"
    other.write_text("third")
    other.replace(path)  # as Kubernetes does: another inode
    assert value(by_file(path), reader) == "third"


def test_what_cannot_be_read_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET_SIZE + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfehunter2")
    os.mkfifo(tmp_path / "pipe")
    expected = {"none": "no such file", "empty": "is empty", "large": "larger than 64 KiB", "binary": "not UTF-8"}
    expected |= {"pipe": "not a regular file", ".": "is a directory", "a\0b": "invalid file name"}
    for name, message in expected.items():
        with pytest.raises(SecretError, match=message) as caught:
            SecretReader().read(by_file(f"{tmp_path}/{name}"))
        assert caught.value.setting == "passwordFile"
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("environment", "state"), [({}, "is not set"), ({"SECRET": ""}, "is empty")])
def test_a_missing_variable_is_an_error(environment: dict[str, str], state: str) -> None:
    credential = Credential.model_validate({"username": "a", "passwordEnv": "SECRET"})
    with pytest.raises(SecretError, match=f"passwordEnv: the environment variable SECRET {state}"):
        SecretReader(environment).read(credential)


def test_check_places_each_missing_secret(tmp_path: Path) -> None:
    text = "version: 1\nregistries: {a.example: {}}\nhosts:\n  a.example:\n    credentials:\n"
    text += f"      - {{username: a, passwordFile: {tmp_path}/none}}\n      - {{identityTokenEnv: NONE}}\n"
    found = check_secrets(parse_config(text, "f"), {})
    assert [str(note.position) for note in found] == ["f:6:37", "f:7:28"]
    assert [note.severity for note in found] == ["warning", "warning"]
