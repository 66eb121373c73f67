"""The plot: for every case the figures of the peers side by side."""

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.bench import Sample, over_tls

PANELS = (
    ("manifest", "requests_s", "hot manifest: requests/s"),
    ("small blob", "requests_s", "small blob: requests/s"),
    ("hot blob", "cpu_s_gib", "hot blob: CPU-s per GiB"),
    ("hot blob", "gib_s", "hot blob: GiB/s"),
    ("cold blob", "gib_s", "cold 1 GiB blob: GiB/s"),
    ("stampede", "seconds", "stampede of 32: seconds"),
    ("slow readers", "growth_mib", "200 slow readers: growth in MiB"),
    ("stored blobs", "cpu_us", "cost of a hit: CPU us"),
    ("limited origin", "seconds", "origin of 64 MiB/s: seconds"),
    (over_tls("manifest"), "requests_s", "hot manifest, TLS: requests/s"),
    (over_tls("hot blob"), "cpu_s_gib", "hot blob, TLS: CPU-s per GiB"),
    (over_tls("cold blob"), "gib_s", "cold 1 GiB blob, TLS: GiB/s"),
)
COLUMNS = 3
WIDTH = 0.8
"""Of all bars of a case together."""


def draw(samples: Sequence[Sample], file: Path) -> None:
    """Write the PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only for the plot

    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of the backend

    figure, axes = plt.subplots(-(-len(PANELS) // COLUMNS), COLUMNS, figsize=(18, 17), layout="constrained")
    for axis, (workload, name, title) in zip(axes.flat, PANELS, strict=True):
        chosen = [one for one in samples if one.workload == workload and name in one.figures]
        cases = list(dict.fromkeys(one.case for one in chosen))
        peers = list(dict.fromkeys(one.peer for one in chosen))
        width = WIDTH / max(1, len(peers))
        for position, peer in enumerate(peers):
            bars = [[one.figures[name] for one in chosen if (one.case, one.peer) == (case, peer)] for case in cases]
            middles = [median(bar) if bar else 0.0 for bar in bars]
            below = [middle - min(bar, default=0.0) for middle, bar in zip(middles, bars, strict=True)]
            above = [max(bar, default=0.0) - middle for middle, bar in zip(middles, bars, strict=True)]
            places = [number + position * width for number in range(len(cases))]
            axis.bar(places, middles, width, label=peer, yerr=[below, above], capsize=3)
        axis.set_title(title)
        axis.set_xticks(
            [number + (WIDTH - width) / 2 for number in range(len(cases))], cases, rotation=20, ha="right", fontsize=8
        )
        if peers:
            axis.legend(fontsize=8)
    figure.savefig(file, dpi=80)
    plt.close(figure)
