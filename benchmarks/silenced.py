"""scope-proxy with metrics that count nothing: `python -m benchmarks.silenced serve ...`, for `benchmarks/cost.py`."""

from prometheus_client import Counter, Gauge, Histogram

from proxy.cli.main import main


def _nothing(*_: object, **__: object) -> None:
    """Count nothing."""


for metric in (Counter, Gauge, Histogram):
    for method in ("inc", "dec", "set", "observe"):
        if hasattr(metric, method):
            setattr(metric, method, _nothing)

if __name__ == "__main__":
    main()
