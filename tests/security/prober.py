"""Probes as a kubelet sends them, from a process of their own: `python -m tests.security.prober HOST PORT SOURCE`.

It asks for /healthz again and again until its input ends, and prints how often it got which status; 0 is no answer.
"""

import asyncio
import contextlib
import http.client
import json
import select
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PAUSE = 0.01
WITHIN = 10.0


def probe(host: str, port: int, source: str) -> int:
    """The status of one probe."""
    connection = http.client.HTTPConnection(host, port, WITHIN, (source, 0))
    try:
        connection.request("GET", "/healthz", headers={"Connection": "close", "User-Agent": "kube-probe/1.30"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


@asynccontextmanager
async def probing(host: str, port: int, source: str) -> AsyncIterator[Counter[int]]:
    """Probe during the block; what was found is there after it."""
    command = [sys.executable, "-m", "tests.security.prober", host, str(port), source]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    found: Counter[int] = Counter()
    try:
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            output, _ = await process.communicate(b"")
            found.update({int(status): count for status, count in json.loads(output).items()})


def main() -> None:
    host, port, source = sys.argv[1:]
    found: Counter[int] = Counter()
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        found[probe(host, int(port), source)] += 1
    print(json.dumps(found))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
