"""What a running proxy looks at now and then: how late its event loop is, and the store's size."""

import asyncio
import logging

from proxy.observe.metrics import LOOP_LAG
from proxy.pull.manifests.store import ManifestStore
from proxy.store.blobs import StoreError
from proxy.store.disk import LOOKUPS
from proxy.store.opened import OpenedStore

LAG_SECONDS = 0.5
"""How often it is measured."""


async def watch_lag() -> None:
    """Measure it without end."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        LOOP_LAG.observe(max(loop.time() - due, 0.0))


WATCH_SECONDS = 1.0

_logger = logging.getLogger(__name__)


async def watch_store(store: OpenedStore, manifests: ManifestStore) -> None:
    """Keep the gauges right, and forget what is remembered of files that `scope-proxy cache rm` has removed."""
    seen = await _last_change(store)
    while True:
        try:
            await store.index.totals()  # sets the gauges
        except StoreError as error:
            _logger.debug("the store's size is not known: %s", error)
        await asyncio.sleep(WATCH_SECONDS)
        changed = await _last_change(store)
        if changed is not None and changed != seen:
            seen = changed
            store.tags.forget()
            store.blobs.provenance.forget()
            manifests.forget()


async def _last_change(store: OpenedStore) -> float | None:
    """When a command last changed the store; None where the disk does not answer."""
    try:
        return await LOOKUPS.in_time(store.layout.last_change)
    except StoreError as error:
        _logger.debug("whether the store was changed is not known: %s", error)
        return None
