"""The store's folder and its format version: made, checked, and set aside where another version wrote it."""

import fcntl
import re
import time
from pathlib import Path

from proxy.store.blobs import StoreError
from proxy.store.files import DIRECTORY_MODE, locked_file, make_folder, read_small, replace
from proxy.store.layout import Layout
from proxy.store.trouble import translated

FORMAT = "1"
"""Version of the layout; a store of another version is set aside, never misread."""
LOCK_SECONDS = 10.0
"""How long a start waits for another process that starts."""

_MARKER = "format"
_LOCK = "format.lock"
_ASIDE = "set-aside-"
_FORMAT_LIMIT = 64
_OURS = ("blobs", "ingest", "repositories", "index.sqlite")
_PAUSE = 0.05


def open_folder(layout: Layout) -> Path | None:
    """Make the folders of a store; the folder that a store of another version was set aside to.

    Blocking. Raises StoreError, also for a folder with files of somebody else: they are not ours to move.
    """
    root = layout.root
    with translated(f"cannot use the cache at {root}"):
        if root.is_symlink():
            raise StoreError(f"the cache at {root} is a symbolic link: name the folder itself")
        root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < deadline:
            with locked_file(root / _LOCK, fcntl.LOCK_EX) as locked:
                if locked:
                    aside = _set_aside(root)
                    for folder in layout.folders:
                        make_folder(folder)
                    return aside
            time.sleep(_PAUSE)
    raise StoreError(f"another process has been opening the cache at {root} for more than {LOCK_SECONDS:.0f} s")


def _set_aside(root: Path) -> Path | None:
    found = _found(root)
    if found == FORMAT:
        return None
    aside = None
    if found is not None:
        aside = _new_folder(root, found)
        for child in list(root.iterdir()):
            if child.name not in {_LOCK, "lost+found"} and not child.name.startswith(_ASIDE):
                child.rename(aside / child.name)
    elif strange := [name for name in _OURS if (root / name).exists()]:
        raise StoreError(
            f"the folder {root} has {' and '.join(strange)} in it, but no file {_MARKER!r}: it is no cache of this "
            "program; name an empty folder, or empty it"
        )
    replace(root / _MARKER, f"{FORMAT}\n".encode(), durable=True)
    return aside


def _found(root: Path) -> str | None:
    """The version that the marker tells; None without a marker, `unknown` for one that is not ours."""
    marker = root / _MARKER
    if not marker.exists() and not marker.is_symlink():
        return None
    text = (read_small(marker, _FORMAT_LIMIT) or b"").decode("ascii", "replace").strip()
    return text if re.fullmatch(r"[0-9A-Za-z.]{1,16}", text) else "unknown"


def _new_folder(root: Path, found: str) -> Path:
    number = 1
    while True:
        folder = root / f"{_ASIDE}format-{found}-{number}"
        try:
            folder.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            number += 1
        else:
            return folder
