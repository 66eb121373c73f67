"""The order in which stored objects are evicted, by image: SQL over the tables of the index.

An image is a manifest and the blobs that it names; an index of images is a manifest that names manifests. Evicting
single blobs by age would leave many images that lack one blob each, and the other blobs of such an image are of no use.
So, in this order:

1. what can no longer be pulled as a whole: blobs of images that lack a blob, and blobs that no stored manifest names,
   when they have not been used for `GRACE_SECONDS` (an image that is being pulled lacks blobs too);
2. manifests of such images, where they take more than `MANIFESTS_SHARE` of the store. Until then they stay: they are
   small, and registries count the requests for manifests; and any manifests beyond `MANIFESTS_LIMIT`;
3. the blobs of the image that was used longest ago, except those that an image used since then needs too;
4. manifests, then indexes.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from proxy.oci.reference import Digest
from proxy.store.layout import Link

GRACE_SECONDS = 3600.0
"""How long an incomplete image counts as one that is being pulled."""
MANIFESTS_SHARE = 0.02
"""Share of the store's size that manifests of incomplete images may take."""
MANIFESTS_LIMIT = 0.2
"""Share of the store's size that all manifests may take: a registry can make them large, and their blobs shared."""
STEP = 100
"""Images that are examined in one go: other requests to the index wait for that."""
BLOBS_STEP = 2000
"""Blobs of these images together, unless the first has more: each is looked for in all images that name it."""

TABLES = """
CREATE TABLE objects (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, used REAL NOT NULL,
  is_manifest INTEGER NOT NULL DEFAULT 0, present INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0,
  named INTEGER NOT NULL DEFAULT 0,
  is_orphan INTEGER AS (is_manifest = 0 AND named = 0),
  is_image INTEGER AS (present > 0),
  is_incomplete INTEGER AS (present > 0 AND missing > 0),
  is_bare INTEGER AS (is_manifest = 1 AND (present = 0 OR missing > 0))) WITHOUT ROWID;
CREATE TABLE contents (number INTEGER PRIMARY KEY, manifest TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
  UNIQUE (manifest, digest, kind));
"""
"""`contents` has the rows of stored manifests only. Of an object, `present` and `missing` count the blobs that it names
and that are stored or not, and `named` the rows of `contents` that name it."""

COUNTS = (
    "CREATE INDEX contents_digest ON contents (digest, manifest)",
    """UPDATE objects SET
  present = (SELECT count(*) FROM contents c JOIN objects o ON o.digest = c.digest
    WHERE c.manifest = objects.digest AND c.kind = 'blob'),
  missing = (SELECT count(*) FROM contents c LEFT JOIN objects o ON o.digest = c.digest
    WHERE c.manifest = objects.digest AND c.kind = 'blob' AND o.digest IS NULL) WHERE is_manifest = 1""",
    "UPDATE objects SET named = (SELECT count(*) FROM contents WHERE digest = objects.digest)",
    "CREATE INDEX objects_orphan ON objects (used) WHERE is_orphan",
    "CREATE INDEX objects_image ON objects (used) WHERE is_image",
    "CREATE INDEX objects_incomplete ON objects (used) WHERE is_incomplete",
    "CREATE INDEX objects_bare ON objects (used, size) WHERE is_bare",
    "CREATE INDEX objects_manifest ON objects (used, digest, size) WHERE is_manifest",
    """CREATE TRIGGER object_added AFTER INSERT ON objects BEGIN
  UPDATE objects SET named = (SELECT count(*) FROM contents WHERE digest = NEW.digest) WHERE digest = NEW.digest;
  UPDATE objects SET present = present + 1, missing = missing - 1
    WHERE digest IN (SELECT manifest FROM contents WHERE digest = NEW.digest AND kind = 'blob');
END""",
    """CREATE TRIGGER object_removed AFTER DELETE ON objects BEGIN
  UPDATE objects SET present = present - 1, missing = missing + 1
    WHERE digest IN (SELECT manifest FROM contents WHERE digest = OLD.digest AND kind = 'blob');
  DELETE FROM contents WHERE manifest = OLD.digest;
END""",
    """CREATE TRIGGER content_added AFTER INSERT ON contents BEGIN
  UPDATE objects SET named = named + 1 WHERE digest = NEW.digest;
  UPDATE objects SET present = present + (SELECT count(*) FROM objects WHERE digest = NEW.digest),
    missing = missing + 1 - (SELECT count(*) FROM objects WHERE digest = NEW.digest)
    WHERE digest = NEW.manifest AND NEW.kind = 'blob';
END""",
    """CREATE TRIGGER content_removed AFTER DELETE ON contents BEGIN
  UPDATE objects SET named = named - 1 WHERE digest = OLD.digest;
  UPDATE objects SET present = present - (SELECT count(*) FROM objects WHERE digest = OLD.digest),
    missing = missing - 1 + (SELECT count(*) FROM objects WHERE digest = OLD.digest)
    WHERE digest = OLD.manifest AND OLD.kind = 'blob';
END""",
)
"""What is made after the first rows: counts, indexes, and the triggers that keep the counts right."""

_RELATED = """UPDATE objects SET used = ? WHERE digest IN (
  SELECT manifest FROM contents WHERE digest = ? AND kind = 'manifest'
  UNION SELECT digest FROM contents WHERE manifest = ? AND kind = 'manifest') AND used < ?"""
_ADD_CONTENT = """INSERT OR IGNORE INTO contents (manifest, digest, kind) SELECT ?, ?, ?
WHERE EXISTS (SELECT 1 FROM objects WHERE digest = ?)"""
_INCOMPLETE = """SELECT used, digest, size, is_manifest, 0, present FROM objects WHERE is_incomplete
  AND used < :young AND (used, digest) > (:used, :digest)
UNION ALL SELECT used, digest, size, is_manifest, 0, 0 FROM objects WHERE is_orphan
  AND used < :young AND (used, digest) > (:used, :digest)
ORDER BY used, digest LIMIT :step"""
_IMAGES = """SELECT used, digest, size, is_manifest, missing = 0 OR used >= :young, present FROM objects WHERE is_image
  AND (used, digest) > (:used, :digest)
UNION ALL SELECT used, digest, size, is_manifest, 1, 0 FROM objects WHERE is_orphan
  AND (used, digest) > (:used, :digest)
ORDER BY used, digest LIMIT :step"""
_EXCLUSIVE = """SELECT b.digest, b.size, c.manifest FROM contents c JOIN objects b ON b.digest = c.digest
WHERE c.manifest = :digest AND c.kind = 'blob' AND b.is_manifest = 0 AND NOT EXISTS (
  SELECT 1 FROM contents o JOIN objects p ON p.digest = o.manifest WHERE o.digest = b.digest AND o.kind = 'blob'
    AND (p.missing = 0 OR p.used >= :young, p.used, p.digest) > (:is_alive, :used, :digest))
ORDER BY b.size DESC"""
"""The blobs of an image that no image needs which comes after it in the order."""
_SURPLUS = """SELECT size, digest FROM objects WHERE is_bare AND used < ? AND NOT EXISTS (
  SELECT 1 FROM contents c JOIN objects m ON m.digest = c.digest
  WHERE c.manifest = objects.digest AND c.kind = 'manifest') ORDER BY used LIMIT ?"""
_OLDEST_MANIFESTS = """SELECT used, digest, size FROM objects INDEXED BY objects_manifest WHERE is_manifest
  AND (used, digest) > (:used, :digest) ORDER BY used, digest LIMIT :step"""
_MANIFESTS = """SELECT used, digest, size FROM objects WHERE (used, digest) > (:used, :digest) AND NOT EXISTS (
  SELECT 1 FROM contents c JOIN objects m ON m.digest = c.digest WHERE c.manifest = objects.digest)
ORDER BY used, digest LIMIT :step"""
_ALL = """SELECT used, digest, size FROM objects WHERE (used, digest) > (:used, :digest)
ORDER BY used, digest LIMIT :step"""


class EvictionStage(IntEnum):
    """What is evicted next, in this order."""

    INCOMPLETE = 1
    SURPLUS_MANIFESTS = 2
    EXCESS_MANIFESTS = 3
    IMAGES = 4
    MANIFESTS = 5
    ALL = 6
    END = 7


@dataclass(frozen=True, slots=True)
class EvictionPosition:
    """How far an eviction has come: the stage, and the object that was examined last in it."""

    stage: EvictionStage = EvictionStage.INCOMPLETE
    used: float = 0.0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Evictable:
    """An object to evict; `image` is the manifest of the image that is evicted with it, None for other objects."""

    digest: Digest
    size: int
    image: str | None = None


Objects = Sequence[tuple[str, int, str | None]]
"""Digests, sizes in bytes, and the manifest of the image that is evicted with them; None for other objects."""


def add_contents(connection: sqlite3.Connection, manifest: str, links: Iterable[Link]) -> None:
    """Within a transaction: note that a stored digest is a manifest, and what it names."""
    connection.execute("UPDATE objects SET is_manifest = 1 WHERE digest = ? AND is_manifest = 0", (manifest,))
    rows = [(manifest, link.digest.text, link.kind, manifest) for link in links if link.digest.text != manifest]
    connection.executemany(_ADD_CONTENT, rows)


def touch_related(connection: sqlite3.Connection, digest: str, used: float) -> None:
    """Within a transaction: who uses a manifest uses the indexes that name it, and what it names as an index."""
    connection.execute(_RELATED, (used, digest, digest, used))


def evictable(
    connection: sqlite3.Connection, position: EvictionPosition, size: int
) -> tuple[Objects, EvictionPosition]:
    """The next objects to evict from a store of `size` bytes, and where to go on.

    There may be none although the end is not reached: the number of images that are examined is bounded.
    """
    values = {
        "young": time.time() - GRACE_SECONDS,
        "used": position.used,
        "digest": position.digest,
        "step": STEP,
    }
    match position.stage:
        case EvictionStage.INCOMPLETE | EvictionStage.IMAGES as stage:
            rows = connection.execute(_IMAGES if stage is EvictionStage.IMAGES else _INCOMPLETE, values).fetchall()
            examined = _examined(rows)
            return _blobs(connection, examined, values["young"]), _after(position, examined, len(rows))
        case EvictionStage.SURPLUS_MANIFESTS:
            return _surplus(connection, size, values["young"]), EvictionPosition(EvictionStage.EXCESS_MANIFESTS)
        case EvictionStage.EXCESS_MANIFESTS:
            return _excess(connection, size, position, values)
        case EvictionStage.END:
            return [], position
        case stage:
            rows = connection.execute(_MANIFESTS if stage is EvictionStage.MANIFESTS else _ALL, values).fetchall()
            return [(digest, length, None) for _, digest, length in rows], _after(position, rows, len(rows))


def _examined(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The first of the images: those whose blobs are examined in one go."""
    blobs = 0
    for number, (*_, present) in enumerate(rows):
        blobs += present
        if number and blobs > BLOBS_STEP:
            return rows[:number]
    return rows


def _blobs(connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]], young: object) -> Objects:
    """The blobs of the images, largest first, and blobs that no manifest names."""
    objects: list[tuple[str, int, str | None]] = []
    for used, digest, size, is_manifest, is_alive, _ in rows:
        if is_manifest:
            values = {"digest": digest, "young": young, "is_alive": is_alive, "used": used}
            objects += connection.execute(_EXCLUSIVE, values)
        else:
            objects.append((digest, size, None))
    return objects


def _surplus(connection: sqlite3.Connection, size: int, young: object) -> Objects:
    """The oldest manifests without images, where all of them take more than their share."""
    [surplus] = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM objects INDEXED BY objects_bare WHERE is_bare"
    ).fetchone()
    surplus -= int(size * MANIFESTS_SHARE)
    objects: list[tuple[str, int, str | None]] = []
    for length, digest in connection.execute(_SURPLUS, (young, STEP)):
        if surplus <= 0:
            break
        surplus -= length
        objects.append((digest, length, None))
    return objects


def _excess(
    connection: sqlite3.Connection, size: int, position: EvictionPosition, values: Mapping[str, object]
) -> tuple[Objects, EvictionPosition]:
    """The oldest manifests of all, where all of them take more than their limit, and where to go on."""
    [total] = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM objects INDEXED BY objects_manifest WHERE is_manifest"
    ).fetchone()
    rows = []
    excess = total - int(size * MANIFESTS_LIMIT)
    for row in connection.execute(_OLDEST_MANIFESTS, values) if excess > 0 else ():
        rows.append(row)
        excess -= row[2]
        if excess <= 0:
            break
    return [(digest, length, None) for _, digest, length in rows], _after(position, rows, len(rows))


def _after(position: EvictionPosition, rows: Sequence[tuple[Any, ...]], found: int) -> EvictionPosition:
    """Where to go on after these rows, the first of those that were found; in the next stage after its last."""
    if len(rows) == found < STEP:
        return EvictionPosition(EvictionStage(position.stage + 1))
    used, digest, *_ = rows[-1]
    return EvictionPosition(position.stage, used, digest)
