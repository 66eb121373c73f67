"""The section `cache` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from proxy.config.base import Duration, KeptImages, Model, Rate, Size, Wait


class Cache(Model):
    """The cache on disk: its size, and how long content is fresh."""

    path: str
    """Directory of the cache. It is created if missing and used by scope-proxy alone."""
    max_size: Annotated[Size, Field(gt=0)] = 50 << 30
    """Maximum size of everything in `path`; beyond it, the least recently used images are deleted."""
    reserve_free: Size = 1 << 30
    """Disk space to leave free; below that, blobs pass through and are not stored."""
    tag_age: Duration = 60.0
    """Time for which a tag is fresh; after that, a `HEAD` request checks whether it has moved."""
    stale_if_error: Duration = 7 * 86400.0
    """Time since its last confirmation for which a tag is served while the upstream is down, rate-limited or slow."""
    stale_after: Wait = 3.0
    """Time that a node waits for the upstream to confirm a tag before it gets the tag stale."""
    stale_if_denied: StrictBool = False
    """Also serve stale tags after a 401, 403 or 404 from the upstream."""
    negative_age: Duration = 5.0
    """Time for which a `not found` response is cached."""
    verify: Literal["ingest", "firstRead", "always"] = "firstRead"
    """When stored bytes are hashed again: `ingest`: never after they were stored; `firstRead`: once in each process;
    `always`: for every response."""
    delivery: Literal["stream", "verified"] = "stream"
    """`stream`: send bytes as they arrive, the last ones after the digest is verified; `verified`: all bytes after."""
    finish_abandoned: StrictBool = True
    """Complete a download even after all its clients have disconnected."""
    keep: tuple[KeptImages, ...] = ()
    """Images that are never evicted, such as `docker.io/library/nginx:1.27` or `registry.k8s.io/**`; without a tag all
    tags. `scope-proxy cache pin` adds others without a change of the configuration."""
    max_manifest_digests: Annotated[int, Field(ge=16, le=100_000, strict=True)] = 2000
    """Maximum number of digests in a manifest that is indexed; with more, the registry confirms each of its blobs."""
    min_join_rate: Rate = 64 << 10
    """If registries share content: bytes per second below which clients of other registries do not wait for a download,
    but download from their own registry."""
    fetch_timeout: Wait = 300.0
    """Time without a byte from the upstream after which a download fails. Its client gets 504 much earlier, by
    `timeouts`, and joins the download when it tries again."""
    offline: StrictBool = False
    """Serve only what is cached and send no request to any upstream: tags never expire, and what is not cached is 404
    with the reason `offline`. For clusters without a network, filled by `scope-proxy cache import`."""
