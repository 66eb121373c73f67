import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.observe.log import ACCESS, ACCESS_LEVELS, REQUEST_ID, AccessRecord, redact, set_up_logging

Written = Callable[[], str]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What stands on standard error since the last call; logging is as it was afterwards."""
    root = logging.getLogger()
    before, level, asyncio_level = root.handlers[:], root.level, logging.getLogger("asyncio").level
    access_level = logging.getLogger(ACCESS).level
    yield lambda: capsys.readouterr().err
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)
    logging.getLogger(ACCESS).setLevel(access_level)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer s3cret.token~x", "Authorization: Bearer <redacted>"),
        ("{'Authorization': 'bearer  s3cret:token'}", "{'Authorization': 'bearer <redacted>'}"),
        ("Basic cm9ib3Q6czNjcmV0==, more", "Basic <redacted>, more"),
        ("GET https://s.example/x?X-Amz-Signature=s3cret ok", "GET https://s.example/x?<redacted> ok"),
        ("url='http://s.example/?a=s3cret'", "url='http://s.example/?<redacted>'"),
        ("via http://robot:s3cret@p.example:3128/", "via http://<redacted>@p.example:3128/"),
        ("http://robot:p@ss@p.example?x=s3cret", "http://<redacted>@p.example?<redacted>"),
        ("a basic idea of the bearer", "a basic idea of the bearer"),
        ("https://s.example/a@b/c", "https://s.example/a@b/c"),
    ],
)
@pytest.mark.security
def test_secrets_are_taken_out_of_text(text: str, expected: str) -> None:
    assert redact(text) == expected


SECRET = st.text("abcdefghijklmnopqrstuvwxyz0123456789._~+/=:-", min_size=8, max_size=60)


@given(SECRET, st.sampled_from(["Bearer {}", "basic   {}", "x='Bearer {}'", "https://h.example/p?sig={}"]))
@pytest.mark.security
def test_no_token_passes(secret: str, form: str) -> None:
    assert secret not in redact(form.format(secret)).replace("Bearer", "")


@given(st.text(max_size=100))
def test_any_text_can_be_redacted_twice(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_each_line_is_json_with_the_request_id(written: Written) -> None:
    set_up_logging("info", "json")
    token = REQUEST_ID.set("r-1")
    try:
        logging.getLogger("proxy.test").info("asked %s with Bearer %s", "https://h.example/?a=s3cret", "s3cret-token")
    finally:
        REQUEST_ID.reset(token)
    logging.getLogger("proxy.test").debug("not written")
    (line,) = written().splitlines()
    entry = json.loads(line)
    assert entry.pop("time")
    assert entry == {
        "level": "INFO",
        "name": "proxy.test",
        "message": "asked https://h.example/?<redacted> with Bearer <redacted>",
        "requestId": "r-1",
    }


def test_text_is_one_line_for_people(written: Written) -> None:
    set_up_logging("debug", "text")
    logging.getLogger("proxy.test").debug("100% done")
    assert written().endswith(" DEBUG   - 100% done\n")


@pytest.mark.parametrize("style", ["json", "text"])
def test_tracebacks_are_redacted_too(written: Written, style: str) -> None:
    set_up_logging("info", style)
    try:
        int("https://h.example/?sig=s3cret with Bearer s3cret-token")
    except ValueError:
        logging.getLogger("library").exception("failed")
    text = written()
    assert "Traceback" in text
    assert "ValueError" in text
    assert "s3cret" not in text


def test_a_message_whose_arguments_do_not_fit_does_not_fail_its_caller(written: Written) -> None:
    set_up_logging("info", "text")
    logging.getLogger("library").info("%d and %s", "x")  # noqa: PLE1206 - that is the point
    assert "%d and %s" in written()


def test_setting_up_again_does_not_write_twice(written: Written) -> None:
    for _ in range(2):
        set_up_logging("info", "text")
    logging.getLogger("proxy.test").info("once")
    assert written().count("once") == 1


FIELDS: dict[str, str | int | float] = {
    "user": "anonymous",
    "status": 200,
    "bytes": 7,
    "seconds": 0.0123,
    "agent": 'c"\\\n\u2028',
    "error": "",
}


def test_the_line_of_a_request_is_as_any_other_with_fields(written: Written) -> None:
    set_up_logging("info", "json")
    token = REQUEST_ID.set("r-1")
    try:
        logging.getLogger(ACCESS).info("%s %s %d", "GET", "/v2/a", 200, extra=FIELDS)
        logging.getLogger(ACCESS).handle(AccessRecord("GET", "/v2/a", 200, {**FIELDS}))
    finally:
        REQUEST_ID.reset(token)
    usual, quick = written().splitlines()
    entries = [json.loads(line) for line in (usual, quick)]
    assert list(entries[0]) == list(entries[1])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", entry.pop("time")) for entry in entries)
    assert entries[0] == entries[1]
    assert entries[1]["message"] == "GET /v2/a 200"


def test_the_line_of_a_request_as_text_has_the_fields_that_are_not_empty(written: Written) -> None:
    set_up_logging("info", "text")
    logging.getLogger(ACCESS).handle(AccessRecord("GET", "/v2/a", 200, {**FIELDS}))
    fields = r'user=anonymous bytes=7 seconds=0.0123 agent="c\"\\\n\u2028"'
    assert written().endswith(f" INFO    - GET /v2/a 200 {fields}\n")


@pytest.mark.parametrize(
    ("level", "access", "logged"),
    [
        ("info", "all", ["all", "errors", "denied"]),
        ("debug", "errors", ["errors", "denied"]),
        ("info", "denied", ["denied"]),
        ("info", "none", []),
        ("warning", "all", []),
        ("error", "denied", []),
    ],
)
def test_the_level_and_the_selection_both_limit_the_access_log(
    written: Written, level: str, access: str, logged: list[str]
) -> None:
    set_up_logging("info", "json", "none")
    set_up_logging(level, "json", access)
    assert written() == ""
    ranks = ("all", "errors", "denied")
    assert [rank for rank in ranks if logging.getLogger(ACCESS).isEnabledFor(ACCESS_LEVELS[rank])] == logged
    logging.getLogger(ACCESS).error("a bug")
    assert "a bug" in written()


@pytest.mark.parametrize("created", [0.0, 1_700_000_000.9996, 1_700_000_001.0, 1_699_999_999.123])
def test_times_are_written_as_the_library_writes_them(written: Written, created: float) -> None:
    set_up_logging("info", "text")
    [handler] = logging.getLogger().handlers
    record = logging.makeLogRecord({"created": created, "msecs": float(int(created % 1 * 1000))})
    assert handler.formatter is not None
    assert written() == ""
    assert handler.formatter.formatTime(record) == logging.Formatter().formatTime(record)


WORDS = st.sampled_from(
    ["Bearer", "basic", " ", "\t", "\u2003", "s3cret-token", "https://", "u:p@", "h/?sig=x", "/v2/"]
)


@given(st.sampled_from(["GET", "HEAD", "POST", "BASIC", "-"]), st.lists(WORDS | st.text(max_size=5)).map("".join))
@example("GET", "/v2/Bearer s3cret-token")
@example("GET", "/v2/Bearer\u2003s3cret-token")
@pytest.mark.security
def test_the_line_of_a_request_holds_no_secret(method: str, path: str) -> None:
    assert AccessRecord(method, path, 200, {}).getMessage() == redact(f"{method} {path} 200")


@pytest.mark.security
@pytest.mark.parametrize("mark", ["\n", "\r", "\x1b[31m", "\x7f", "\x9b", "\u2028"])
def test_what_a_client_sends_begins_no_line_for_people_and_colours_none(written: Written, mark: str) -> None:
    set_up_logging("info", "text")
    path = f"/v2/x{mark}2026-01-01 00:00:00,000 ERROR - forged"
    logging.getLogger(ACCESS).handle(AccessRecord("GET", path, 404, {}))
    logging.getLogger("proxy.test").warning("cut %s", path)
    lines = written().split("\n")
    assert [line.count("forged") for line in lines] == [1, 1, 0]
    assert mark not in "".join(lines)
