"""What a file says counts as it is now; only errors that say nothing of it leave what was known."""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from proxy.auth.inward.watched_file import (
    LOOK_SECONDS,
    PROBLEMS_LIMIT,
    FileKind,
    LookTimes,
    Parsed,
    WatchedFile,
    read_now,
)
from tests.unit.auth.support import Clock

LIMIT = 100


def parse(content: bytes, file: str) -> Parsed[frozenset[str]]:
    """Words in lower case are good lines."""
    lines = content.decode().split("\n")
    bad = [f"{file}:{number}: bad" for number, line in enumerate(lines, 1) if line and not line.islower()]
    good = frozenset(line for line in lines if line.islower())
    return Parsed(good, len(good), tuple(bad))


NONE: frozenset[str] = frozenset()
WORDS = FileKind("wordFile", "words", LIMIT, parse, NONE, "holds no word: write one", "there are no words")


@dataclass(slots=True)
class Watched:
    """A file that is looked at with each question."""

    path: Path
    clock: Clock
    file: WatchedFile[frozenset[str]]

    async def words(self) -> set[str]:
        self.clock.now += LOOK_SECONDS
        return set(await self.file.current())


AT_ONCE = LookTimes(settle=0.0)


def watching(path: Path, kind: FileKind[frozenset[str]] = WORDS, times: LookTimes = AT_ONCE) -> Watched:
    clock = Clock()
    path.write_text("one\ntwo\n")
    return Watched(path, clock, WatchedFile.open(path, kind, clock, times))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return watching(tmp_path / "words")


async def test_a_changed_file_counts(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await watched.words() == {"one", "two"}
    watched.path.write_text("three\n")
    assert await watched.words() == {"three"}
    assert f"wordFile {watched.path} changed and was read again: words: 1" in caplog.text


async def test_it_is_looked_at_once_a_second_however_many_ask(watched: Watched) -> None:
    await watched.words()
    watched.path.write_text("three\n")
    assert await asyncio.gather(*(watched.file.current() for _ in range(5))) == [{"one", "two"}] * 5
    assert await watched.words() == {"three"}


async def test_good_lines_count_and_bad_ones_are_reported_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.path.write_text("BAD\ntwo\n")
    for _ in range(3):
        assert await watched.words() == {"two"}
    assert watched.file.status.problems == (f"{watched.path}:1: bad",)
    assert (watched.file.status.count, watched.file.status.trouble) == (1, "")
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]
    watched.path.write_text("two\nthree\n")
    assert await watched.words() == {"two", "three"}
    assert not watched.file.status.problems


async def test_so_many_bad_lines_are_reported_and_no_more(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.path.write_text("B\n" * (PROBLEMS_LIMIT + 5) + "two\n")
    assert await watched.words() == {"two"}
    assert len(watched.file.status.problems) == PROBLEMS_LIMIT + 1
    assert "and 5 more lines" in caplog.text


async def test_what_stands_behind_the_limit_does_not_count(watched: Watched) -> None:
    watched.path.write_text("one\n" + "x" * (LIMIT - 10) + "\nbehind\n")
    assert await watched.words() == {"one", "x" * (LIMIT - 10)}
    assert "larger than 0 KiB" in watched.file.status.problems[0]


def removed(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def empty(path: Path) -> None:
    path.write_text("")


def only_bad(path: Path) -> None:
    path.write_text("BAD\n")


@pytest.mark.parametrize("change", [removed, pipe, empty, only_bad])
async def test_a_file_that_names_nothing_leaves_nothing(
    watched: Watched, caplog: pytest.LogCaptureFixture, change: Callable[[Path], None]
) -> None:
    assert await watched.words() == {"one", "two"}
    change(watched.path)
    for _ in range(3):
        assert await watched.words() == set()
    assert (watched.file.status.count, watched.file.status.problems) == (0, ())
    assert watched.file.status.trouble
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "there are no words" in caplog.text
    watched.path.unlink(missing_ok=True)
    watched.path.write_text("three\n")
    assert await watched.words() == {"three"}
    assert watched.file.status.trouble == ""


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ELOOP])
async def test_a_file_that_may_not_be_read_leaves_nothing_until_it_may(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened = os.open

    def refuse(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path), flags)

    watched.path.write_text("three\n")
    monkeypatch.setattr(os, "open", refuse)
    assert await watched.words() == set()
    monkeypatch.setattr(os, "open", opened)
    assert await watched.words() == {"three"}  # though nothing but its mode has changed


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM])
async def test_an_error_that_says_nothing_of_the_file_leaves_what_was_known(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    opened = os.open

    def fail(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path), flags)

    watched.path.write_text("three\n")
    monkeypatch.setattr(os, "open", fail)
    for _ in range(3):
        assert await watched.words() == {"one", "two"}
    assert (watched.file.status.count, os.strerror(number) in watched.file.status.trouble) == (2, True)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    monkeypatch.setattr(os, "open", opened)
    assert await watched.words() == {"three"}
    assert watched.file.status.trouble == ""


async def test_a_file_that_is_being_written_is_read_a_second_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "words"

    def written_meanwhile(content: bytes, file: str) -> Parsed[frozenset[str]]:
        if not content:
            path.write_text("one\nthree\n")
        return parse(content, file)

    watched = await asyncio.to_thread(watching, path, replace(WORDS, parse=written_meanwhile))
    path.write_text("")  # as a program leaves it that writes it anew, for a moment
    assert await watched.words() == {"one", "three"}
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_a_disk_that_hangs_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun, may_end = [], threading.Event()

    def hanging(content: bytes, file: str) -> Parsed[frozenset[str]]:
        if content == b"three\n":
            begun.append(content)
            assert may_end.wait(20)
        return parse(content, file)

    watched = await asyncio.to_thread(watching, tmp_path / "words", replace(WORDS, parse=hanging), LookTimes(wait=0.01))
    watched.path.write_text("three\n")
    for _ in range(2):
        assert await watched.words() == {"one", "two"}
    may_end.set()
    assert len(begun) == 1
    assert "the disk does not respond" in caplog.text


def test_a_file_is_refused_at_the_start_if_it_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "words"
    for content, message in (("", "holds no word: write one"), ("BAD\n", ":1: bad")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            WatchedFile.open(path, WORDS)
        with pytest.raises(ValueError, match=message):
            read_now(path, WORDS)
    path.write_text("BAD\none\n")
    assert read_now(path, WORDS).problems == (f"{path}:1: bad",)
