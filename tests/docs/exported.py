"""What the program exports, and which metrics a query names."""

import re
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from proxy.observe import metrics

FOREIGN = {
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_spec_memory_limit_bytes",
    "kubelet_volume_stats_available_bytes",
    "up",
}
"""Metrics of the kubelet, and of Prometheus about what it reads."""

_WORDS = frozenset(("and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left"))
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right) *\([^()]*\)")
_WORD = re.compile(r"(?<![\w.:$])[a-zA-Z_:][\w:]*(?! *\()(?![\w:])")


def program() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The metrics of our own by the name under which they are scraped, with type and labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, tuple(metric._labelnames))
    return found


def exported() -> set[str]:
    """The names of all samples, those of the process among them."""
    return {sample for name, (kind, _) in program().items() for sample in _samples(name, kind)} | {
        sample.name
        for family in REGISTRY.collect()
        if family.name.startswith(("process_", "python_"))
        for sample in family.samples
    }


def metric_names(query: str) -> set[str]:
    """The metrics that a query names."""
    plain = _LABELS.sub("", _TEXT.sub('""', query))
    return set(_WORD.findall(plain)) - _WORDS


def _samples(name: str, kind: str) -> Iterator[str]:
    if kind == "histogram":
        yield from (f"{name}{part}" for part in ("_bucket", "_sum", "_count"))
    else:
        yield name
