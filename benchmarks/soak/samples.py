"""What a worker of the proxy uses, read from /proc and from the files in which workers keep their metrics."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from benchmarks.process import cpu_seconds, resident
from proxy.observe.metrics import DIRECTORY_VARIABLE

LAG = "scope_proxy_event_loop_lag_seconds"


@dataclass(frozen=True, slots=True)
class Sample:
    """One worker at one time; lag is that of the event loop since the sample before."""

    seconds: float
    """Since the start of the soak."""
    pid: int
    descriptors: int
    memory_mib: float
    threads: int
    cpu_seconds: float
    lag_ms: float
    """Mean of the measurements, of which there are two a second."""
    lag_below_ms: float
    """Upper bound of the slowest of them: a bucket of the histogram."""

    def json(self) -> dict[str, float]:
        """The sample, for JSON."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Lags:
    """All measurements of the lag of one worker so far."""

    total: float
    buckets: Mapping[float, float]

    def since(self, before: "Lags | None") -> tuple[float, float]:
        """Mean and upper bound, in milliseconds, of those after `before`."""
        old = before or Lags(0.0, {})
        new = {bound: count - old.buckets.get(bound, 0) for bound, count in self.buckets.items()}
        count = sum(new.values())
        mean = (self.total - old.total) / count if count else 0.0
        return mean * 1000, max((bound for bound, n in new.items() if n), default=0.0) * 1000


class Sampler:
    """Samples the workers of one proxy."""

    def __init__(self) -> None:
        self._lags: dict[int, Lags] = {}

    def sample(self, seconds: float, pids: Iterable[int]) -> list[Sample]:
        """One sample of each; FileNotFoundError once a worker has ended."""
        return [self._sample(seconds, pid) for pid in pids]

    def _sample(self, seconds: float, pid: int) -> Sample:
        lags = read_lags(pid)
        mean, bound = lags.since(self._lags.get(pid))
        self._lags[pid] = lags
        status = Path(f"/proc/{pid}/status").read_text()
        threads = int(status.partition("Threads:")[2].split()[0])
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return Sample(seconds, pid, descriptors, resident(pid, "VmRSS"), threads, cpu_seconds(pid), mean, bound)


def read_lags(pid: int) -> Lags:
    """The histogram of one worker, from the directory that all workers share."""
    total, buckets = 0.0, Counter[float]()
    file = Path(_variable(pid, DIRECTORY_VARIABLE)) / f"histogram_{pid}.db"
    for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
        metric, name, labels, _ = json.loads(key)
        if metric == LAG and name == f"{LAG}_sum":
            total += value
        elif metric == LAG and name == f"{LAG}_bucket":
            buckets[float(labels["le"])] += value
    return Lags(total, buckets)


def workers(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _variable(pid: int, name: str) -> str:
    for entry in Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0"):
        key, _, value = entry.partition("=")
        if key == name:
            return value
    raise KeyError(name)
