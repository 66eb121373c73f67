"""Credentials of `docker-credential-<name>` programs."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Sequence

from cachetools import TTLCache

from proxy.auth.credentials.source import CredentialError, is_text
from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.transport.singleflight import Background, SingleFlight
from proxy.transport.upstream_time import at_upstream

TIMEOUT_SECONDS = 10.0
"""For one answer of a helper."""
KILL_SECONDS = 2.0
"""For a helper to be gone after it was killed."""
OUTPUT_LIMIT = 64 * 1024
REMEMBER_SECONDS = 60.0
"""How long an answer is kept, so that not every token costs a program start."""

_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_NOT_FOUND = "credentials not found"
_HUB_URL = "https://index.docker.io/v1/"


class HelperSource:
    """Runs credential helpers, one at a time per question."""

    def __init__(self, background: Background) -> None:
        self._flights: SingleFlight[tuple[str, str], tuple[Login, ...]] = SingleFlight(background)
        self._answers: TTLCache[tuple[str, str], tuple[Login, ...]] = TTLCache(1024, REMEMBER_SECONDS)

    async def ask(self, helper: str, origin: Origin) -> Sequence[Login]:
        """What a helper knows for a host; nothing where it has none. Raises CredentialError."""
        server = _HUB_URL if origin.host == "registry-1.docker.io" else origin.authority
        key = (helper, server)
        known: tuple[Login, ...] | None = self._answers.get(key)
        if known is None:
            known = self._answers[key] = await self._flights.run(key, lambda: _run(helper, server))
        return known


async def _run(helper: str, server: str) -> tuple[Login, ...]:
    if not _NAME.fullmatch(helper):
        raise CredentialError(f"{helper[:100]!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it may show secrets
            limit=OUTPUT_LIMIT,
            start_new_session=True,  # so that it can be ended with all that it started
        )
    except OSError as error:
        raise CredentialError(f"cannot run {program}: {error.strerror}") from None
    try:
        with at_upstream():  # it asks somebody else, too
            async with asyncio.timeout(TIMEOUT_SECONDS):
                output = await _exchange(process, server)
    except TimeoutError:
        raise CredentialError(f"{program} did not answer within {TIMEOUT_SECONDS:.0f} seconds") from None
    finally:
        if process.returncode is None or (process.stdout is not None and not process.stdout.at_eof()):
            await _kill(process)
    return _parse(program, server, output, process.returncode)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a helper with all that it started: a child that keeps the pipe open would keep us waiting."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await process.communicate()  # what is left in the pipe, up to its end


async def _exchange(process: asyncio.subprocess.Process, server: str) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the helper was started without pipes")
    process.stdin.write(server.encode())
    process.stdin.close()
    output = b""
    while len(output) <= OUTPUT_LIMIT and (chunk := await process.stdout.read(OUTPUT_LIMIT)):
        output += chunk
    if len(output) > OUTPUT_LIMIT:
        raise CredentialError(f"the credential helper printed more than {OUTPUT_LIMIT} bytes")
    await process.wait()
    return output


def _parse(program: str, server: str, output: bytes, status: int | None) -> tuple[Login, ...]:
    if status != 0:
        if _NOT_FOUND in output.decode(errors="replace").lower():
            return ()
        raise CredentialError(f"{program} failed for {server} with exit status {status}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CredentialError(f"{program} gave no Username and Secret for {server}") from None
    if not is_text(username) or not is_text(secret) or not secret:
        raise CredentialError(f"{program} gave no Username and Secret for {server}")
    kind = LoginKind.IDENTITY_TOKEN if username == _TOKEN_USER else LoginKind.PASSWORD
    return (Login(f"{program} for {server}", kind, username, secret),)
