"""The soak tells growth from noise, and reads what a worker uses."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from benchmarks.soak.samples import LAG, Lags, Sample, read_lags
from benchmarks.soak.tally import Tally
from benchmarks.soak.verdict import growth, summaries
from proxy.observe.metrics import DIRECTORY_VARIABLE


def samples(descriptors: list[int] | None = None, memory: list[float] | None = None) -> list[Sample]:
    counts = descriptors or [30] * len(memory or ())
    sizes = memory or [80.0] * len(counts)
    return [
        Sample(10.0 * number, 7, count, size, 16, 1.0, 0.5, 5.0)
        for number, (count, size) in enumerate(zip(counts, sizes, strict=True))
    ]


def test_figures_that_stay_flat_are_no_growth() -> None:
    assert growth(7, summaries(samples([10] * 10 + [30, 45] * 45))[7]) == []


def test_descriptors_that_grow_slowly_are_growth() -> None:
    figures = summaries(samples([30 + number // 20 for number in range(720)]))[7]
    assert growth(7, figures) == ["worker 7: descriptors grew from 35 to 64, allowed are 59"]


def test_memory_before_the_second_tenth_does_not_count() -> None:
    assert growth(7, summaries(samples(memory=[20.0] * 10 + [80.0] * 90))[7]) == []


def test_memory_that_grows_is_growth() -> None:
    found = growth(7, summaries(samples(memory=[60.0 + number for number in range(100)]))[7])
    assert len(found) == 1
    assert found[0].startswith("worker 7: memory_mib grew from 74.5 to 154.5")


def test_lag_is_that_since_the_sample_before() -> None:
    before = Lags(1.0, {0.001: 10, 0.1: 1})
    assert Lags(1.5, {0.001: 14, 0.1: 1, 0.005: 1}).since(before) == pytest.approx((100.0, 5.0))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[int]:
    """The pid of a process that writes its metrics to this directory."""
    environment = {**os.environ, DIRECTORY_VARIABLE: str(tmp_path)}
    with subprocess.Popen(["cat"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"started\n")
        process.stdin.flush()
        process.stdout.readline()  # until then its environment may be missing in /proc
        yield process.pid


def test_lag_is_read_from_the_files_of_this_worker(tmp_path: Path, worker: int) -> None:
    file = MmapedDict(str(tmp_path / f"histogram_{worker}.db"))  # type: ignore[no-untyped-call]
    for name, labels, value in ((f"{LAG}_sum", {}, 0.75), (f"{LAG}_bucket", {"le": "0.5"}, 3.0)):
        key = mmap_key(LAG, name, list(labels), list(labels.values()), "how late")
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    assert read_lags(worker) == Lags(0.75, {0.5: 3.0})


def test_only_failures_are_kept_in_words() -> None:
    tally = Tally()
    tally.add("tag", "ok", "fine")
    tally.add("tag", "wrong", "other bytes")
    assert (tally.of("wrong"), list(tally.reasons)) == (1, ["tag: wrong: other bytes"])
