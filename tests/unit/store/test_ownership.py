"""What others own or may write is no cache of ours."""

import os
import stat
from pathlib import Path

import pytest

from proxy.store.blobs import StoreError
from proxy.store.format import exposure, open_directory
from proxy.store.layout import Layout
from tests.unit.store.support import made, modes

pytestmark = pytest.mark.security

OTHER = 65532
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users")
PARTS = ["blobs", "ingest", "repositories", "provenance", "suspects", "index.sqlite", "format", "format.lock"]


def part(layout: Layout, name: str) -> Path:
    path = layout.root / name
    if not path.exists():
        path.touch() if "." in name else path.mkdir()
    return path


@pytest.mark.parametrize("name", PARTS)
def test_what_every_user_may_write_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    layout = made(tmp_path)
    path = part(layout, name)
    path.chmod(0o777)
    with pytest.raises(StoreError) as caught:
        open_directory(layout)
    assert str(path) in str(caught.value)
    assert "777" in str(caught.value)
    assert "chmod -R go-w" in str(caught.value)
    path.chmod(0o700)
    assert open_directory(layout) is None


@needs_root
@pytest.mark.parametrize("name", PARTS)
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, name: str) -> None:
    layout = made(tmp_path)
    path = part(layout, name)
    os.chown(path, OTHER, -1)
    with pytest.raises(StoreError) as caught:
        open_directory(layout)
    assert str(path) in str(caught.value)
    assert str(OTHER) in str(caught.value)


@needs_root
def test_what_a_group_of_others_may_write_is_refused(tmp_path: Path) -> None:
    layout = made(tmp_path)
    os.chown(layout.ingest, -1, OTHER)
    layout.ingest.chmod(0o770)
    with pytest.raises(StoreError, match="is writable by others"):
        open_directory(layout)


def test_what_our_own_group_may_write_is_closed_to_it(tmp_path: Path) -> None:
    """Kubernetes opens volumes to the fsGroup of a pod at each mount."""
    layout = made(tmp_path)
    for path in (layout.ingest, layout.root / "blobs"):
        path.chmod(0o770)
    assert open_directory(layout) is None
    assert modes(layout.root) == {"0o40700", "0o100600"}


def test_a_directory_above_that_others_may_write_is_used(tmp_path: Path) -> None:
    """An emptyDir, or a volume with fsGroup: root's, and open to everybody."""
    tmp_path.chmod(0o2777)
    layout = Layout(tmp_path / "store")
    assert open_directory(layout) is None
    assert stat.S_IMODE(layout.root.stat().st_mode) & 0o777 == 0o700
    assert exposure(layout.root) is None


@pytest.mark.parametrize(("mode", "is_exposed"), [(0o777, True), (0o2777, True), (0o1777, False), (0o775, False)])
def test_a_cache_that_every_user_could_replace_is_a_finding(tmp_path: Path, mode: int, is_exposed: bool) -> None:
    tmp_path.chmod(mode)
    assert (exposure(tmp_path) is not None) == is_exposed
    assert open_directory(Layout(tmp_path)) is None  # it is used all the same: what is inside is judged
