"""How much memory a program has had at the most, for attacks that are to cost it little."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.real.proxy_process import Proxy, serving_proxy

NODE_MIB = 256.0
"""What the chart gives a proxy on a node by default."""
CENTRAL_MIB = 512.0
"""What it gives a central one."""

RecordProperty = Callable[[str, object], None]
"""pytest's `record_property`."""


@asynccontextmanager
async def program(
    *arguments: Any, record: RecordProperty, most: float = CENTRAL_MIB, **sections: Any
) -> AsyncIterator[Proxy]:
    """The proxy as a program of its own, whose peak is reported at the end and may be no higher than `most` MiB."""
    serving = serving_proxy(*arguments, **sections)
    proxy = await asyncio.to_thread(serving.__enter__)
    try:
        yield proxy
        tell_peak(proxy.process.pid, record, most)
    finally:
        await asyncio.to_thread(serving.__exit__, None, None, None)


def tell_peak(pid: int, record: RecordProperty, most: float) -> None:
    """Tell the peak of a process, which may be no higher than `most` MiB."""
    peak = peak_mib(pid)
    record("peak resident MiB", round(peak, 1))
    print(f"peak resident: {peak:.1f} MiB")  # noqa: T201 - read in the report of a run
    assert peak < most


def peak_mib(pid: int) -> float:
    """The most MiB that a process has had in memory at one time."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [high] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(high) / 1024
