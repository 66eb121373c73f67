import pytest
from prometheus_client import CollectorRegistry, Counter

from proxy.observe.metrics import Bound, status_label


@pytest.mark.parametrize(
    ("status", "label"), [(200, "200"), (404, "404"), (503, "503"), (599, "other"), (799, "other"), (0, "other")]
)
def test_only_statuses_of_the_standards_are_labels(status: int, label: str) -> None:
    assert status_label(status) == label


def test_a_child_is_looked_up_once_and_is_the_library_s_own() -> None:
    registry = CollectorRegistry()
    counter = Counter("bound", "For this test", ["kind", "code"], registry=registry)
    bound = Bound(counter)
    assert bound["a", 200] is bound["a", 200]
    bound["a", 200].inc()
    counter.labels("a", "200").inc()
    assert registry.get_sample_value("bound_total", {"kind": "a", "code": "200"}) == 2
    assert registry.get_sample_value("bound_total", {"kind": "b", "code": "200"}) is None
