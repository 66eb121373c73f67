"""The file of the sealing keys: what may stand in it, and what happens when it changes."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from proxy.auth import key_file
from proxy.auth.key_file import KeyFile
from proxy.auth.sealed import SealingKeys, TokenForged
from proxy.auth.sealed_payload import Sealed
from proxy.oci.login import ANONYMOUS

OLD, NEW = "old-" * 10, "new-" * 10
NOW = 1_800_000_000
PAYLOAD = Sealed(ANONYMOUS, (), NOW, NOW + 60)


def opens(keys: SealingKeys, key: str) -> bool:
    """Whether the keys open what this key seals."""
    try:
        return keys.open(SealingKeys((key,)).seal(PAYLOAD), NOW) == PAYLOAD
    except TokenForged:
        return False


def test_blank_lines_and_comments_are_skipped() -> None:
    keys = SealingKeys.parse(f"# newest first\n\n  {NEW}  \r\n#{'x' * 40}\n{OLD}\n{OLD}\n", "k")
    assert (keys.count, opens(keys, NEW), opens(keys, OLD)) == (2, True, True)
    assert SealingKeys((NEW,)).open(keys.seal(PAYLOAD), NOW) == PAYLOAD


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "keys.txt holds no key"),
        ("\n# only a comment\n", "keys.txt holds no key"),
        (f"{OLD}\n\nshort-canary\n", r"keys\.txt:3: a key has at least 32 characters.*openssl rand -hex 32"),
        ("\n".join(f"{OLD}{number}" for number in range(17)), "17 keys"),
    ],
)
def test_a_broken_file_says_where_and_what_to_do(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        SealingKeys.parse(text, "keys.txt")
    assert "canary" not in str(refused.value)
    assert OLD not in str(refused.value)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "binary", "large"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "binary":
            path.write_bytes(b"\xff" * 40)
        case "large":
            path.write_text(f"{OLD}\n" * 5000)
    with pytest.raises(ValueError, match=str(path)):
        KeyFile.open(path)


@pytest.fixture
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "LOOK_SECONDS", 0.0)


def write(path: Path, text: str) -> None:
    """Replace the file, as secrets are replaced in a cluster."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.mark.usefixtures("always_look")
async def test_changed_keys_are_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys"
    path.write_text(OLD)
    file = await asyncio.to_thread(KeyFile.open, path)
    assert opens(await file.current(), OLD)
    write(path, f"{NEW}\n{OLD}\n")
    keys = await file.current()
    assert (opens(keys, NEW), opens(keys, OLD)) == (True, True)
    await file.current()
    assert [record.message for record in caplog.records] == [f"tokenKeyFile {path} was read again: keys: 2"]


@pytest.mark.usefixtures("always_look")
@pytest.mark.parametrize("broken", ["short-canary", None])
async def test_a_broken_file_leaves_the_old_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    path = tmp_path / "keys"
    path.write_text(OLD)
    file = await asyncio.to_thread(KeyFile.open, path)
    if broken is None:
        path.unlink()
    else:
        write(path, broken)
    for _ in range(3):
        assert opens(await file.current(), OLD)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(path) in caplog.text
    assert "canary" not in caplog.text
    write(path, NEW)
    keys = await file.current()
    assert (opens(keys, NEW), opens(keys, OLD)) == (True, False)


async def test_the_file_is_not_looked_at_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "LOOK_SECONDS", 3600.0)
    path = tmp_path / "keys"
    path.write_text(OLD)
    file = await asyncio.to_thread(KeyFile.open, path)
    await file.current()
    write(path, NEW)
    assert opens(await file.current(), OLD)
