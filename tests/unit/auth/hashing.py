"""bcrypt with a gate, for tests of what happens while passwords are hashed."""

import asyncio
import threading
from dataclasses import dataclass, field

import bcrypt

from proxy.auth.inward.htpasswd import CHECKS_AT_ONCE


@dataclass(slots=True)
class Hashing:
    """The calls of bcrypt, with a gate that holds them up."""

    open: threading.Event = field(default_factory=threading.Event)
    begun: int = 0
    running: int = 0
    most: int = 0
    hashes: list[bytes] = field(default_factory=list)
    passwords: list[bytes] = field(default_factory=list)
    threads: set[threading.Thread] = field(default_factory=set)
    lock: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, password: bytes, value: bytes) -> bool:
        with self.lock:
            self.lock.notify_all()
            self.begun, self.running = self.begun + 1, self.running + 1
            self.most = max(self.most, self.running)
            self.threads.add(threading.current_thread())
            self.hashes.append(value)
            self.passwords.append(password)
        assert self.open.wait(20)
        with self.lock:
            self.running -= 1
        return self.checkpw(password, value)

    checkpw = staticmethod(bcrypt.checkpw)

    async def has_begun(self, count: int = CHECKS_AT_ONCE) -> None:
        """Wait until so many passwords are or were being hashed."""
        await asyncio.to_thread(self._wait, count)

    def _wait(self, count: int) -> None:
        with self.lock:
            assert self.lock.wait_for(lambda: self.begun >= count, 20)
