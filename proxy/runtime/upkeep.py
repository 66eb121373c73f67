"""Periodic tasks: measure the lag of the event loop, and update the gauges of the store."""

import asyncio
import logging

from proxy.observe.metrics import LOOP_LAG
from proxy.pull.manifests.store import ManifestStore
from proxy.store.blobs import StoreError
from proxy.store.disk import LOOKUPS
from proxy.store.opened import OpenedStore

LAG_SECONDS = 0.5
"""Interval of the measurement."""


async def watch_lag(interval: float = LAG_SECONDS) -> None:
    """Measure the lag of the event loop; runs forever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        LOOP_LAG.observe(max(loop.time() - due, 0.0))


WATCH_SECONDS = 1.0

_logger = logging.getLogger(__name__)


async def watch_store(store: OpenedStore, manifests: ManifestStore) -> None:
    """Update the gauges, and drop cached entries after `scope-proxy cache rm` has removed files; runs forever."""
    seen = await _last_change(store)
    while True:
        try:
            await store.index.totals()  # sets the gauges
        except StoreError as error:
            _logger.debug("cannot read the size of the store: %s", error)
        await asyncio.sleep(WATCH_SECONDS)
        changed = await _last_change(store)
        if changed is not None and changed != seen:
            seen = changed
            store.tags.forget()
            store.blobs.provenance.forget()
            manifests.forget()


async def _last_change(store: OpenedStore) -> float | None:
    """When a command last changed the store; None if the disk does not respond."""
    try:
        return await LOOKUPS.in_time(store.layout.last_change)
    except StoreError as error:
        _logger.debug("cannot read when the store was last changed: %s", error)
        return None
