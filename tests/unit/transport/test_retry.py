from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.transport.retry import ROUNDS, parse_retry_after, pause_before

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = 24 * 3600.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("0" * 40 + "7", 7.0),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 100, DAY),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30.0),
        ("Fri, 02 Jan 2026 04:04:35 +0100", 30.0),
        ("Friday, 02-Jan-26 03:04:35 GMT", 30.0),
        ("Fri Jan  2 03:04:35 2026", 30.0),
        ("Fri, 02 Jan 2015 03:04:35 GMT", 0.0),
        ("Fri, 02 Jan 2099 03:04:35 GMT", DAY),
    ],
)
def test_seconds_and_dates_are_read(header: str, seconds: float) -> None:
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    "header", [None, "", " ", "-5", "1.5", "soon", "7s", "7, 8", "²", "٣", "Fri, 99 Jan 2026 03:04:35 GMT", "\x00"]
)
def test_what_cannot_be_read_asks_for_nothing(header: str | None) -> None:
    assert parse_retry_after(header, NOW) is None


@given(
    st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d( [+-]\d{4})?")
)
def test_no_header_raises_and_none_asks_for_more_than_a_day(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= DAY


def test_the_clock_is_read_where_none_is_given() -> None:
    seconds = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1)))
    assert seconds is not None
    assert 0 < seconds <= 3600


def test_pauses_grow_and_stay_short() -> None:
    shares = [(pause_before(number), 0.1 * 4 ** (number - 1)) for number in range(1, ROUNDS + 1) for _ in range(50)]
    assert all(0.75 * middle <= pause <= 1.25 * middle for pause, middle in shares)
    assert len({pause for pause, _ in shares}) > ROUNDS
