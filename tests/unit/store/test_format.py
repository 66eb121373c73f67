import fcntl
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.store.blobs import StoreError
from proxy.store.files import locked_file
from proxy.store.format import FORMAT, ReplacedStore, open_directory
from proxy.store.layout import Layout
from proxy.store.maintenance import tidy
from tests.unit.store.support import made, modes, process, put_file, said


@pytest.mark.security
def test_a_new_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    layout = made(tmp_path)
    assert (layout.root / "format").read_text() == f"{FORMAT}\n"
    assert modes(layout.root) == {"0o40700", "0o100600"}


def test_a_store_is_opened_again_as_it_is(tmp_path: Path) -> None:
    layout = made(tmp_path)
    digest = put_file(layout, b"blob")
    assert open_directory(layout) is None
    assert layout.blob(digest).exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [("3", "3"), ("2a", "2a"), ("", "unknown"), ("../../up", "unknown"), ("\xff", "unknown"), ("1" * 500, "unknown")],
)
def test_a_store_of_an_unknown_version_is_set_aside(tmp_path: Path, text: str, name: str) -> None:
    layout = made(tmp_path)
    digest = put_file(layout, b"blob")
    for number in (1, 2):
        (layout.root / "format").write_text(text, encoding="latin-1")
        assert open_directory(layout) == ReplacedStore(layout.root / f"set-aside-format-{name}-{number}", is_kept=True)
        assert list(layout.blobs()) == []
    aside = Layout(layout.root / f"set-aside-format-{name}-1")
    assert aside.blob(digest).read_bytes() == b"blob"
    assert (layout.root / "format").read_text() == f"{FORMAT}\n"


def test_a_store_of_an_older_version_is_emptied(tmp_path: Path) -> None:
    layout = made(tmp_path)
    for number in range(30):
        put_file(layout, b"blob %d" % number)
    (layout.root / "ingest" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for number in (1, 2):
        (layout.root / "format").write_text("1\n")
        assert open_directory(layout) == ReplacedStore(layout.root / f"emptied-format-1-{number}", is_kept=False)
        assert list(layout.blobs()) == []
    for _ in tidy(layout, lambda *_: None):
        pass
    assert not [path for path in layout.root.iterdir() if path.name.startswith("emptied-")]
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize("name", ["blobs", "ingest", "index.sqlite"])
def test_files_of_somebody_else_are_not_moved(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=rf"contains {name} but no file 'format'"):
        open_directory(Layout(tmp_path))
    assert (tmp_path / name).exists()
    assert not (tmp_path / "format").exists()


def test_the_root_of_a_volume_may_hold_what_volumes_hold(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert open_directory(Layout(tmp_path)) is None


@pytest.mark.security
def test_a_link_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(StoreError, match="is a symbolic link: configure the path of the directory itself"):
            open_directory(Layout(tmp_path / name))
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.security
def test_links_inside_are_not_followed(tmp_path: Path) -> None:
    layout = made(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    layout.ingest.rmdir()
    layout.ingest.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot use the cache"):
        open_directory(layout)


@pytest.mark.parametrize("name", ["store", "store/format", "store/format.lock"])
def test_what_is_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name == "store":
        path.write_text("a file")
    else:
        path.symlink_to(tmp_path / "secret")
    before = sorted(tmp_path.iterdir())
    if name == "store/format":  # a marker that cannot be read is of no version that we know
        assert open_directory(Layout(tmp_path / "store")) is not None
    else:
        with pytest.raises(StoreError, match="cannot use the cache at"):
            open_directory(Layout(tmp_path / "store"))
    assert sorted(tmp_path.iterdir()) == before


def test_of_many_processes_one_replaces_it(tmp_path: Path) -> None:
    layout = made(tmp_path)
    put_file(layout, b"blob")
    (layout.root / "format").write_text("0")
    code = (
        "from proxy.store.format import open_directory\n"
        "print('ready', flush=True); input(); print(open_directory(layout))"
    )
    with ExitStack() as stack:
        others = [stack.enter_context(process(code, layout.root)) for _ in range(4)]
        for other in others:
            assert said(other) == "ready"
        for other in others:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        assert sorted(said(other) for other in others) == sorted(
            ["None", "None", "None", str(ReplacedStore(layout.root / "emptied-format-0-1", is_kept=False))]
        )
        assert [other.wait(60) for other in others] == [0] * 4
    assert all(directory.is_dir() for directory in layout.directories)


def test_another_process_is_not_waited_for_forever(tmp_path: Path) -> None:
    layout = made(tmp_path)
    with locked_file(layout.root / "format.lock", fcntl.LOCK_EX), pytest.raises(StoreError, match="another process"):
        open_directory(layout, lock_seconds=0.1)
