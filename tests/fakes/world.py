"""The network as an attacker would have it: every name resolves, and whatever nobody else serves is the attacker's."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy.testbed.answer import Answer, json_answer
from proxy.testbed.record import Call, Kind
from tests.fakes.scripted import ScriptedServer

PUBLIC = "93.184.216.34"
"""A public address."""
ELSEWHERE = "93.184.216.35"
"""Where names lead of which the world knows nothing else."""

Address = tuple[str, int]
Info = tuple[int, int, int, str, tuple[Any, ...]]


class Canary(ScriptedServer):
    """The attacker's server: it takes whatever it is sent, and answers in a way that invites more."""

    def answer(self, call: Call) -> Answer:
        """A token, whoever asks."""
        return json_answer(200, {"token": "poisoned", "access_token": "poisoned", "path": call.path})

    def credential(self, call: Call) -> str:
        """Everything of a request that could be a credential."""
        headers = ("Authorization", "Proxy-Authorization", "Cookie", "Referer")
        fields = ("password", "refresh_token", "username")
        found = (*(call.header(name) for name in headers), *(call.value(name) for name in fields))
        return " ".join(filter(None, found)) or "anonymous"

    def _route(self, path: str) -> tuple[Kind, str, str]:
        return "object", "", path


class World:
    """Names and addresses as the proxy meets them while the world is in force; every step is remembered."""

    def __init__(self, canary: Canary) -> None:
        self.lookups: list[str] = []
        self.dialled: list[str] = []
        self._canary = canary
        self._names: dict[str, list[tuple[str, ...]]] = {}
        self._servers: dict[Address, Address] = {}
        self._home: set[str] = set()

    def resolves(self, name: str, *answers: tuple[str, ...]) -> None:
        """Let a name have these addresses, one answer after the other; the last one stays."""
        self._names[name] = list(answers)

    def serves(self, address: str, port: int, url: str) -> None:
        """Let the server with this URL be the one at an address."""
        self._servers[address, port] = _address(url)

    def knows(self, *urls: str) -> None:
        """Let connections to these servers be nothing to wonder at."""
        self._home |= {"{}:{}".format(*_address(url)) for url in urls}

    @property
    def canary_port(self) -> int:
        """The port of the attacker on loopback."""
        return _address(self._canary.url)[1]

    @property
    def strangers(self) -> list[str]:
        """Every address that was connected to and that nobody had named as known."""
        return [address for address in self.dialled if address not in self._home]

    def assert_untouched(self) -> None:
        """Nobody went anywhere but to known servers, and the attacker heard nothing."""
        assert self.strangers == []
        assert [(entry.method, entry.path, entry.credential) for entry in self._canary.record.all()] == []

    def look_up(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, in any spelling that a resolver knows."""
        self.lookups.append(host)
        if answers := self._names.get(host):
            return answers.pop(0) if len(answers) > 1 else answers[0]
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            pass
        try:
            return (socket.inet_ntoa(socket.inet_aton(host)),)
        except OSError:
            return (ELSEWHERE,)

    def place(self, address: Address) -> Address:
        """Where a connection to an address really goes."""
        host, port = address
        self.dialled.append(f"{host}:{port}")
        return self._servers.get(address) or (address if host == "127.0.0.1" else _address(self._canary.url))


@contextmanager
def world_in_force(world: World, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process look up names and connect as the world says."""
    connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Info]:
        return [_info(found, port) for found in world.look_up(host)]

    async def sock_connect(loop: Any, sock: socket.socket, address: tuple[Any, ...]) -> None:
        host, port = world.place((address[0], address[1]))
        mapped = (f"::ffff:{host}", port, 0, 0)
        await connect(loop, sock, mapped if sock.family == socket.AF_INET6 else (host, port))

    with patch.context() as inner:
        inner.setattr("socket.getaddrinfo", getaddrinfo)
        inner.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", sock_connect)
        yield


def _address(url: str) -> Address:
    parts = urlsplit(url if "://" in url else f"//{url}")
    return str(parts.hostname), int(parts.port or 0)


def _info(address: str, port: int) -> Info:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)
