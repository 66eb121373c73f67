"""The file of the sealing keys: what may stand in it, and what happens when it changes."""

import asyncio
import logging
import os
import re
from pathlib import Path

import pytest

from proxy.auth.inward.sealed_tokens import KeyFile, NoSealingKey, Sealed, SealingKeys, TokenForged, parse_keys
from proxy.auth.inward.watched_file import LookTimes
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
    parsed = parse_keys(f"# newest first\n\n  {NEW}  \r\n#{'x' * 40}\n{OLD}\n{OLD}\n".encode(), "k")
    keys = parsed.content
    assert (parsed.count, opens(keys, NEW), opens(keys, OLD)) == (2, True, True)
    assert SealingKeys((NEW,)).open(keys.seal(PAYLOAD), NOW) == PAYLOAD


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{OLD}\n\nshort-canary\n", r"keys\.txt:3: a key has at least 32 characters.*openssl rand -hex 32"),
        ("\n".join(f"{OLD}{number}" for number in range(17)), r"keys\.txt:17: there are 16 keys before it"),
        (OLD.encode() + b"\n" + b"\xff" * 40, r"keys\.txt:2: .*UTF-8"),
    ],
)
def test_a_bad_line_says_where_and_what_to_do_and_the_others_count(text: str | bytes, says: str) -> None:
    parsed = parse_keys(text if isinstance(text, bytes) else text.encode(), "keys.txt")
    (problem,) = parsed.problems
    assert re.match(says, problem)
    assert "canary" not in problem
    assert OLD not in problem
    assert parsed.count == (16 if "17" in says else 1)
    assert opens(parsed.content, f"{OLD}0" if "17" in says else OLD)


def test_without_a_key_nothing_is_sealed_or_opened() -> None:
    token = SealingKeys((OLD,)).seal(PAYLOAD)
    none = SealingKeys(())
    with pytest.raises(TokenForged):
        none.open(token, NOW)
    with pytest.raises(NoSealingKey):
        none.seal(PAYLOAD)


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "binary", "large", "empty", "comment"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "binary":
            path.write_bytes(b"\xff" * 40)
        case "large":
            path.write_text("#" * 70_000 + f"\n{OLD}\n")
        case "empty":
            path.touch()
        case "comment":
            path.write_text("\n# only a comment\n")
    with pytest.raises(ValueError, match=str(path)):
        KeyFile.open(path)


async def opened(path: Path, interval: float = 0.0) -> KeyFile:
    """The file, checked with each question."""
    return await asyncio.to_thread(KeyFile.open, path, LookTimes(interval))


def write(path: Path, text: str) -> None:
    """Replace the file, as secrets are replaced in a cluster."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


async def test_changed_keys_are_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys"
    path.write_text(OLD)
    file = await opened(path)
    assert opens(await file.current(), OLD)
    write(path, f"{NEW}\n{OLD}\n")
    keys = await file.current()
    assert (opens(keys, NEW), opens(keys, OLD)) == (True, True)
    await file.current()
    assert [record.message for record in caplog.records] == [f"tokenKeyFile {path} changed and was read again: keys: 2"]


@pytest.mark.parametrize("emptied", ["short-canary", "", None])
async def test_a_file_without_a_key_opens_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, emptied: str | None
) -> None:
    path = tmp_path / "keys"
    path.write_text(OLD)
    file = await opened(path)
    if emptied is None:
        path.unlink()
    else:
        write(path, emptied)
    for _ in range(3):
        assert not opens(await file.current(), OLD)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no token is accepted, and none is issued" in caplog.text
    assert str(path) in caplog.text
    assert "canary" not in caplog.text
    write(path, NEW)
    keys = await file.current()
    assert (opens(keys, NEW), opens(keys, OLD)) == (True, False)


async def test_a_key_that_is_taken_out_is_out_whatever_another_line_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{NEW}\n{OLD}\n")
    file = await opened(path)
    write(path, f"{NEW}\nshort-canary\n")
    for _ in range(3):
        keys = await file.current()
        assert (opens(keys, NEW), opens(keys, OLD)) == (True, False)
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]
    assert f"{path}:2: " in caplog.text


async def test_the_file_is_not_looked_at_for_each_request(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(OLD)
    file = await opened(path, 3600.0)
    await file.current()
    write(path, NEW)
    assert opens(await file.current(), OLD)
