import json

import pytest

from proxy.doctor.report import HOST_CHECKS, IMAGE_CHECKS, TEXT_LIMIT, Check, HostReport, Journal, Outcome, Report


def journal() -> Journal:
    return Journal([Check.CONNECTION, Check.TLS, Check.CLOCK])


def report(written: Journal) -> Report:
    return Report((HostReport("https://r.example/v2", "c.yaml:1:1", None, written.finish("not reached")),))


def test_findings_stand_in_their_order_and_the_rest_is_skipped_for_the_reason() -> None:
    written = journal()
    written.failed(Check.TLS, "expired", "renew it")
    written.passed(Check.CONNECTION, "open")
    found = written.finish("not reached")
    assert [(each.check, each.outcome) for each in found] == [
        (Check.CONNECTION, Outcome.PASSED),
        (Check.TLS, Outcome.FAILED),
        (Check.CLOCK, Outcome.SKIPPED),
    ]
    assert found[-1].seen == "not reached"


def test_the_next_check_is_the_first_that_nothing_is_reported() -> None:
    written = journal()
    following = [written.next]
    for check in (Check.CONNECTION, Check.TLS, Check.CLOCK):
        written.passed(check, "good")
        following.append(written.next)
    assert following == [Check.CONNECTION, Check.TLS, Check.CLOCK, Check.CLOCK]


@pytest.mark.parametrize(
    ("outcome", "failed"), [("passed", False), ("warned", False), ("skipped", False), ("failed", True)]
)
def test_only_a_failure_fails(outcome: str, failed: bool) -> None:
    written = journal()
    match outcome:
        case "passed":
            written.passed(Check.TLS, "x")
        case "skipped":
            written.skipped(Check.TLS, "x")
        case "warned":
            written.warned(Check.TLS, "x", "y")
        case _:
            written.failed(Check.TLS, "x", "y")
    assert report(written).failed is failed


def test_as_data_it_is_the_same() -> None:
    written = journal()
    written.warned(Check.TLS, "ends soon", "renew it", days=3)
    data = json.loads(json.dumps(report(written).as_dict()))
    assert data["ok"] is True
    assert data["counts"] == {"passed": 0, "warned": 1, "failed": 0, "skipped": 2}
    assert data["hosts"][0]["findings"][1] == {
        "check": "tls",
        "outcome": "warned",
        "seen": "ends soon",
        "advice": "renew it",
        "facts": {"days": 3},
    }


def test_a_secret_that_a_registry_sends_back_is_not_displayed() -> None:
    written = journal()
    written.hide("Canary-Password")
    written.failed(Check.TLS, "sent to canary-password.example", "not CANARY-PASSWORD", host="xcanary-passwordx")
    text = json.dumps(report(written).as_dict())
    assert "canary" not in text.lower()
    assert "<redacted>.example" in text


def test_a_short_secret_is_not_looked_for_in_every_word() -> None:
    written = journal()
    written.hide("e", "")
    written.passed(Check.TLS, "seen")
    assert report(written).hosts[0].findings[1].seen == "seen"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "a\rb", "\x9b31m", "\u202eevil"])
def test_what_writes_to_the_terminal_is_taken_out(text: str) -> None:
    written = journal()
    written.failed(Check.TLS, text, text, fact=text)
    finding = report(written).hosts[0].findings[1]
    assert all(each.isprintable() for each in (finding.seen, finding.advice, str(finding.facts["fact"])))


def test_signatures_and_users_of_urls_are_taken_out_and_texts_are_bounded() -> None:
    written = journal()
    written.failed(Check.TLS, "https://user:canary@s.example/o?X-Amz-Signature=canary " + "x" * 9999, "")
    seen = report(written).hosts[0].findings[1].seen
    assert "canary" not in seen
    assert len(seen) == TEXT_LIMIT


def test_a_login_is_tried_only_where_no_image_gives_a_scope() -> None:
    assert set(HOST_CHECKS) - set(IMAGE_CHECKS) == {Check.LOGIN}
    assert set(HOST_CHECKS) | set(IMAGE_CHECKS) == set(Check)
