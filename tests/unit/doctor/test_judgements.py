"""The pure judgements: clock, rate limits, the smallest blob."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from proxy.doctor.connection import check_clock
from proxy.doctor.pull import check_rates, smallest_blob
from proxy.doctor.report import Check, Finding, Journal

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC).timestamp()


def only(journal: Journal) -> Finding:
    (finding,) = journal.finish("nothing was told")
    return finding


def clock(date: str | None) -> Finding:
    journal = Journal([Check.CLOCK])
    check_clock(journal, "r.example", date, NOW)
    return only(journal)


@pytest.mark.parametrize(
    ("skew", "outcome"),
    [
        (0, "passed"),
        (60, "passed"),
        (-60, "passed"),
        (61, "warned"),
        (-300, "warned"),
        (301, "failed"),
        (-900_000, "failed"),
    ],
)
def test_clock(skew: int, outcome: str) -> None:
    finding = clock(format_datetime(datetime.fromtimestamp(NOW + skew, UTC), usegmt=True))
    assert finding.outcome == outcome
    assert finding.facts["skew"] == skew


def test_clock_says_in_which_direction() -> None:
    assert "400 s ahead of ours" in clock(format_datetime(datetime.fromtimestamp(NOW + 400, UTC))).seen
    assert "400 s behind ours" in clock(format_datetime(datetime.fromtimestamp(NOW - 400, UTC))).seen


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Jul 2026 12:00:00 GMT", "0", "1" * 400])
def test_a_date_that_cannot_be_read_tells_nothing(date: str | None) -> None:
    assert clock(date).outcome == "skipped"


@pytest.mark.parametrize(
    ("limit", "left", "outcome", "facts"),
    [
        ("100;w=21600", "76;w=21600", "passed", (100, 76)),
        ("100;w=21600", "10;w=21600", "warned", (100, 10)),
        ("100", "0", "warned", (100, 0)),
        ("", "5", "passed", (None, 5)),
        ("100", "", "passed", (100, None)),
        ("", "", "passed", (None, None)),
        ("many", "9" * 50, "passed", (None, None)),
    ],
)
def test_rate_limits(limit: str, left: str, outcome: str, facts: tuple[int | None, int | None]) -> None:
    journal = Journal([Check.RATE_LIMIT])
    check_rates(journal, "r.example", {}, {"ratelimit-limit": limit, "ratelimit-remaining": left})
    finding = only(journal)
    assert finding.outcome == outcome
    assert (finding.facts["limit"], finding.facts["remaining"]) == facts


def test_a_rate_limit_names_its_window_and_whom_it_counts() -> None:
    journal = Journal([Check.RATE_LIMIT])
    reported = {"ratelimit-limit": "100;w=3600", "ratelimit-remaining": "76;w=3600", "ratelimit-reset": "90"}
    check_rates(journal, "r.example", {**reported, "docker-ratelimit-source": "192.0.2.7"})
    finding = only(journal)
    assert finding.seen == "76 of 100 requests are left at r.example, in a window of 3600 s, counted for 192.0.2.7"
    facts = {"limit": 100, "remaining": 76, "window": 3600, "resetSeconds": 90, "source": "192.0.2.7"}
    assert finding.facts == facts


def test_a_gateway_in_front_of_the_registry_reports_its_limit_by_other_names() -> None:
    journal = Journal([Check.RATE_LIMIT])
    check_rates(journal, "r.example", {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59"})
    finding = only(journal)
    assert (finding.facts["limit"], finding.facts["remaining"], finding.facts["window"]) == (60, 59, None)


def descriptor(letter: str, size: object, **more: object) -> dict[str, object]:
    return {"mediaType": "application/octet-stream", "digest": f"sha256:{letter * 64}", "size": size, **more}


def manifest(*layers: object, config: object = None) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": config or descriptor("c", 500), "layers": layers}).encode()


def test_the_smallest_blob_is_found_among_config_and_layers() -> None:
    found = smallest_blob(manifest(descriptor("a", 90), descriptor("b", 700)))
    assert found is not None
    assert (str(found[0]), found[1]) == ("sha256:" + "a" * 64, 90)


def test_empty_foreign_and_unsized_blobs_are_not_requested() -> None:
    foreign = descriptor("d", 1, urls=["https://elsewhere.example/"])
    found = smallest_blob(manifest(descriptor("a", 0), descriptor("b", "7"), descriptor("e", True), foreign))
    assert found is not None
    assert found[1] == 500


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b"{}", b'{"layers": 3}', b'{"config": []}', b"[" * 100_000])
def test_what_is_no_manifest_names_no_blob(content: bytes) -> None:
    assert smallest_blob(content) is None
