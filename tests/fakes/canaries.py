"""Secrets that tests can recognise, and the places where none may ever stand: answers, logs, metrics."""

import base64
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import generate_latest

PASSWORD = "canary-password"
OTHER_PASSWORD = "canary-other"
IDENTITY_TOKEN = "canary-identity-token"
INBOUND = "canary-of-the-node"

_SIGNATURE = "X-Amz-Signature"


def basic(username: str, password: str) -> str:
    """The credentials part of a Basic header."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def assert_no_secret(*texts: str) -> None:
    """None of the texts holds a password, a token or a signature."""
    encoded = (basic("robot", PASSWORD)[:-4], basic("robot", OTHER_PASSWORD)[:-4])
    for text in texts:
        for secret in ("canary", _SIGNATURE, "Bearer c", *encoded):
            assert secret not in text, f"{secret} stands in: {text[:400]}"


def recognisable_tokens(patch: pytest.MonkeyPatch) -> None:
    """Let every token that a fake issues be one that can be recognised."""
    numbers = itertools.count(1)
    patch.setattr("secrets.token_urlsafe", lambda _size: f"canary-token-{next(numbers)}")


class Written(logging.Handler):
    """All that was logged, at every level, with tracebacks and extra fields, before any redaction."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        self.lines.append(f"{self.format(record)} {extra}")


_PLAIN = frozenset(vars(logging.makeLogRecord({})))


@contextmanager
def watched_logs() -> Iterator[Written]:
    """Everything that is logged inside, at DEBUG."""
    root, written = logging.getLogger(), Written()
    level = root.level
    root.addHandler(written)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.setLevel(level)
        root.removeHandler(written)


def metrics() -> str:
    """What /metrics says."""
    return generate_latest().decode()
