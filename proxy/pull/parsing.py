"""Parsing and hashing of what may be a manifest: once, and in a thread where the event loop would wait for it."""

import asyncio

from proxy.oci.descriptor import ParsedManifest, parse_manifest
from proxy.oci.reference import Digest

IN_LOOP = 256 * 1024
"""Bytes up to which no thread is needed: what images have, and milliseconds of parsing at the most."""


async def parse(content: bytes) -> ParsedManifest:
    """What some bytes are as a manifest."""
    return parse_manifest(content) if len(content) <= IN_LOOP else await asyncio.to_thread(parse_manifest, content)


async def examine(content: bytes, algorithm: str) -> tuple[Digest, ParsedManifest]:
    """The digest of some bytes, and what they are as a manifest."""
    if len(content) <= IN_LOOP:
        return _examine(content, algorithm)
    return await asyncio.to_thread(_examine, content, algorithm)


def _examine(content: bytes, algorithm: str) -> tuple[Digest, ParsedManifest]:
    return Digest.of(content, algorithm), parse_manifest(content)
