import os
from pathlib import Path
from typing import Any

import pytest

from proxy.store.files import STEP, Writeback, sync_file_range

PIECE = 8 * 1024 * 1024


@pytest.mark.parametrize("system_call", [sync_file_range, lambda: None], ids=["linux", "elsewhere"])
def test_a_file_that_is_written_out_on_the_way_has_all_its_bytes(tmp_path: Path, system_call: Any) -> None:
    path, begun = tmp_path / "part", Writeback(0, system_call)
    with path.open("wb", buffering=0) as file:
        for number in range(2 * STEP // PIECE + 1):
            file.write(bytes([number]) * PIECE)
            begun.follow(file.fileno(), file.tell())
        os.fsync(file.fileno())
    assert path.read_bytes() == b"".join(bytes([number]) * PIECE for number in range(2 * STEP // PIECE + 1))


def test_a_closed_file_is_no_error(tmp_path: Path) -> None:
    with (tmp_path / "part").open("wb") as file:
        descriptor = file.fileno()
    Writeback(0).follow(descriptor, 3 * STEP)
    assert (tmp_path / "part").stat().st_size == 0
