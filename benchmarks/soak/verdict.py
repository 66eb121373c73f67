"""Whether a worker's use of resources stays flat: the last tenth of a run is compared with the second one."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.soak.samples import Sample

TENTHS = 10
DESCRIPTORS = 24
"""More descriptors than in the second tenth: medians of what is in flight differ by less. A descriptor left open once
in a thousand requests comes to about 70 in each worker between the second and the last tenth of two hours."""
THREADS = 4
"""More threads: pools start them as they are needed, and are full before the second tenth."""
MEMORY_SHARE = 0.15
MEMORY_MIB = 16.0
"""More memory, in addition to the share: caches with a bound fill slowly, and the heap fragments. A leak of 0.5 KiB
with each request comes to more than that in two hours."""
LEAST_SECONDS = 1200.0
"""Shorter runs are not judged by growth: until then threads are started and caches are filled."""
FIGURES = ("descriptors", "memory_mib", "threads", "lag_ms", "lag_below_ms")


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Medians of the first, the second and the last tenth and of all, and the greatest."""
    tenth = max(1, len(values) // TENTHS)
    parts = {"first_tenth": values[:tenth], "second_tenth": values[tenth : 2 * tenth] or values[:tenth]}
    parts |= {"median": values, "last_tenth": values[-tenth:]}
    return {**{name: round(statistics.median(part), 3) for name, part in parts.items()}, "max": round(max(values), 3)}


def summaries(samples: Sequence[Sample]) -> dict[int, dict[str, dict[str, float]]]:
    """The summary of every figure, for each worker."""
    pids = dict.fromkeys(sample.pid for sample in samples)
    own = {pid: [sample for sample in samples if sample.pid == pid] for pid in pids}
    return {pid: {name: summarize([getattr(one, name) for one in own[pid]]) for name in FIGURES} for pid in pids}


def growth(pid: int, figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What a worker uses more of at the end than it may."""
    allowed = {
        "descriptors": figures["descriptors"]["second_tenth"] + DESCRIPTORS,
        "threads": figures["threads"]["second_tenth"] + THREADS,
        "memory_mib": figures["memory_mib"]["second_tenth"] * (1 + MEMORY_SHARE) + MEMORY_MIB,
    }
    return [
        f"worker {pid}: {name} grew from {figures[name]['second_tenth']:g} to {figures[name]['last_tenth']:g}, "
        f"allowed are {most:g}"
        for name, most in allowed.items()
        if figures[name]["last_tenth"] > most
    ]
