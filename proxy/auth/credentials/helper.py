"""Credentials of `docker-credential-<name>` programs."""

import asyncio
import contextlib
import json
from collections.abc import Sequence

from cachetools import TTLCache

from proxy.auth.credentials.source import CredentialError, Login, LoginKind
from proxy.config.address import Origin
from proxy.transport.singleflight import Background, SingleFlight

TIMEOUT_SECONDS = 10.0
OUTPUT_LIMIT = 64 * 1024
REMEMBER_SECONDS = 60.0
"""How long an answer is kept, so that not every token costs a program start."""

_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
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
        if key not in self._answers:
            self._answers[key] = await self._flights.run(key, lambda: _run(helper, server))
        known: tuple[Login, ...] = self._answers[key]
        return known


async def _run(helper: str, server: str) -> tuple[Login, ...]:
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it may show secrets
            limit=OUTPUT_LIMIT,
        )
    except OSError as error:
        raise CredentialError(f"cannot run {program}: {error.strerror}") from None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            output = await _exchange(process, server)
    except TimeoutError:
        raise CredentialError(f"{program} did not answer within {TIMEOUT_SECONDS:.0f} seconds") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return _parse(program, server, output, process.returncode)


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
    except (ValueError, KeyError, TypeError):
        raise CredentialError(f"{program} gave no Username and Secret for {server}") from None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        raise CredentialError(f"{program} gave no Username and Secret for {server}")
    kind = LoginKind.IDENTITY_TOKEN if username == _TOKEN_USER else LoginKind.PASSWORD
    return (Login(f"{program} for {server}", kind, username, secret),)
