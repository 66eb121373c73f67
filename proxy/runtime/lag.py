"""How late the event loop is: what blocks it makes every request wait."""

import asyncio

from proxy.metrics import LOOP_LAG

LAG_SECONDS = 0.5
"""How often it is measured."""


async def watch_lag() -> None:
    """Measure it without end."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        LOOP_LAG.observe(max(loop.time() - due, 0.0))
