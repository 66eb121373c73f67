"""What a running proxy looks at now and then: the store's size, and changes made beside it."""

import asyncio
import logging

from proxy.pull.manifest_store import ManifestStore
from proxy.store.blobs import StoreError
from proxy.store.opened import OpenedStore

WATCH_SECONDS = 1.0

_logger = logging.getLogger(__name__)


async def watch_store(store: OpenedStore, manifests: ManifestStore) -> None:
    """Keep the gauges right, and forget what is remembered of files that `scope-proxy cache rm` has removed."""
    seen = await asyncio.to_thread(store.layout.last_change)
    while True:
        try:
            await store.index.totals()  # sets the gauges
        except StoreError as error:
            _logger.debug("the store's size is not known: %s", error)
        await asyncio.sleep(WATCH_SECONDS)
        changed = await asyncio.to_thread(store.layout.last_change)
        if changed != seen:
            seen = changed
            store.tags.forget()
            store.blobs.provenance.forget()
            manifests.forget()
