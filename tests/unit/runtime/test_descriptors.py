import logging
import resource
from collections.abc import Iterator

import pytest

from proxy.runtime.sockets import RESERVED, ensure_descriptors


@pytest.fixture
def hard() -> Iterator[int]:
    """The hard limit of open files, with a lower soft one."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, before), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_the_limit_is_raised_as_far_as_it_goes(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    ensure_descriptors(16)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert caplog.records == []


def test_what_cannot_be_reached_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    ensure_descriptors(1024 - RESERVED)
    assert caplog.records == []
    ensure_descriptors(1025 - RESERVED)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "only 1024 files may be open, and limits.connections (513) needs 1025" in record.getMessage()


def test_a_limit_that_stays_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not permitted")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    ensure_descriptors(16)
    assert "stays at 1024: not permitted" in caplog.text
