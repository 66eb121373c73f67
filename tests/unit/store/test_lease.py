import os
import signal
from pathlib import Path

import pytest

from proxy.store.lease import Lease, LeaseView, is_held, reported_size
from tests.unit.store.support import descriptors, ended, process, said

RACE = """
path, free = Path(sys.argv[1]), Path(sys.argv[2])
held = refused = 0
while held < 300:
    lease = Lease.take(path)
    if lease is None:
        refused += 1
        continue
    os.close(os.open(free, os.O_CREAT | os.O_EXCL))  # fails where somebody else holds it as well
    free.unlink()
    lease.release()
    held += 1
print(held)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


def take(path: Path) -> Lease:
    lease = Lease.take(path)
    assert lease is not None
    return lease


def test_one_holder_at_a_time(path: Path) -> None:
    lease = take(path)
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert is_held(path)
    assert Lease.take(path) is None
    lease.release()
    assert not is_held(path)
    assert not path.exists()
    take(path).release()


def test_no_descriptor_stays_open(path: Path) -> None:
    before = descriptors()
    for _ in range(5):
        lease = take(path)
        assert Lease.take(path) is None
        reported_size(path)
        is_held(path)
        lease.release()
    path.symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        Lease.take(path)
    assert reported_size(path) is None
    assert not is_held(path)
    assert descriptors() == before


def test_a_release_that_fails_still_frees_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    lease = take(path)

    def refused(_: Path, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(OSError, match="Read-only"):
            lease.release()
    assert descriptors() == before
    take(path).release()


def test_those_who_look_are_not_in_each_others_way(path: Path) -> None:
    path.touch()
    one, other = LeaseView.open(path), LeaseView.open(path)
    assert one is not None
    assert other is not None
    assert not one.is_held()
    assert not other.is_held()
    lease = take(path)  # none of them has kept it
    assert one.is_held()
    lease.release()
    assert not one.is_held()  # even though its file is missing
    one.close()
    other.close()


@pytest.mark.parametrize("total", [0, 1, 123_456_789_012, -1])
def test_followers_get_the_size(path: Path, total: int) -> None:
    lease = take(path)
    assert reported_size(path) is None
    lease.report_size(total)
    assert reported_size(path) == total
    lease.release()
    assert reported_size(path) is None


def test_a_new_holder_says_nothing_of_what_the_last_one_said(path: Path, tmp_path: Path) -> None:
    lease = take(path)
    lease.report_size(5)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    lease.report_committed(descriptor)
    os.close(lease.descriptor)  # killed
    again = take(path)
    view = LeaseView.open(path)
    assert view is not None
    assert view.reported_size() is None
    assert not view.committed(descriptor)
    os.close(descriptor)
    view.close()
    again.release()


def test_only_the_committed_file_is_reported_as_committed(path: Path, tmp_path: Path) -> None:
    lease = take(path)
    view = LeaseView.open(path)
    assert view is not None
    one, other = os.open(tmp_path, os.O_RDONLY), os.open("/", os.O_RDONLY)
    assert not view.committed(one)
    lease.report_committed(one)
    lease.release()
    assert view.committed(one)
    assert not view.committed(other)
    for descriptor in (one, other, view.descriptor):
        os.close(descriptor)


@pytest.mark.parametrize("text", ["x", "--1", "1.5", "\0" * 20, "²"])
def test_what_nobody_can_have_reported_is_nothing(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert reported_size(path) is None


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    code = "lease = Lease.take(Path(sys.argv[1])); lease.report_size(7); print('held', flush=True); input()"
    other = process(code, path)
    assert said(other) == "held"
    assert is_held(path)
    assert reported_size(path) == 7
    assert Lease.take(path) is None
    os.kill(other.pid, signal.SIGKILL)
    assert ended(other) == -signal.SIGKILL
    assert not is_held(path)
    take(path).release()


def test_of_racing_processes_never_two_hold_it(path: Path, tmp_path: Path) -> None:
    others = [process(RACE, path, tmp_path / "free") for _ in range(3)]
    assert [said(other) for other in others] == ["300"] * 3
    assert [ended(other) for other in others] == [0] * 3
