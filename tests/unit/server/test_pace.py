from hypothesis import given
from hypothesis import strategies as st

from proxy.server.pace import Pace


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 12))
def test_it_tells_what_was_taken_in_the_last_period_once_that_is_over(steps: list[int], ticks: int) -> None:
    pace, totals = Pace(ticks), list[int]()
    for step in steps:
        totals.append(step + (totals[-1] if totals else 0))
        expected = totals[-1] - totals[-1 - ticks] if len(totals) > ticks else None
        assert pace.add(totals[-1]) == expected


def test_who_has_taken_much_before_and_nothing_since_is_slow_after_one_period() -> None:
    pace = Pace(3)
    assert [pace.add(total) for total in (0, 1000, 1000, 1000, 1000, 1001)] == [None, None, None, 1000, 0, 1]
