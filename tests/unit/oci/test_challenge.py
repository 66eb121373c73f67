import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.challenge import BASIC, BEARER, Challenge, choose_challenge, parse_challenges

REALM = "https://auth.example/token"
BEARER_LINE = f'Bearer realm="{REALM}",service="reg",scope="repository:a/b:pull"'

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
# What a header line can carry, with every character that a careless parser would split at.
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from('",\\= ;'), max_size=30)
# A scheme that is also the first parameter's name would not be wrong, only hard to compare.
SCHEMES = st.sampled_from(["bearer", "basic", "digest", "custom"])
CHALLENGES = st.builds(Challenge, SCHEMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))


def rendered(challenge: Challenge) -> str:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return f"{challenge.scheme.title()} " + ", ".join(f"{k}={quoted(v)}" for k, v in challenge.parameters.items())


@given(st.lists(st.lists(CHALLENGES, max_size=3), max_size=3))
def test_challenges_survive_their_header_lines(lines: list[list[Challenge]]) -> None:
    parsed = parse_challenges([", ".join(map(rendered, line)) for line in lines])
    assert parsed == tuple(challenge for line in lines for challenge in line)


def test_a_challenge_is_read() -> None:
    (challenge,) = parse_challenges([BEARER_LINE])
    assert (challenge.scheme, challenge.realm, challenge.service) == (BEARER, REALM, "reg")
    assert (challenge.scope, challenge.error) == ("repository:a/b:pull", None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'BEARER Realm="{REALM}" , Service = reg', {"realm": REALM, "service": "reg"}),
        (f"Bearer realm={REALM},service=reg", {"realm": REALM, "service": "reg"}),
        (f'Bearer realm="{REALM}" service="reg"', {"realm": REALM, "service": "reg"}),
        (f',, Bearer realm="{REALM}",,error="invalid_token",', {"realm": REALM, "error": "invalid_token"}),
        (f'Bearer realm="{REALM}",realm="https://evil.example"', {"realm": REALM}),
        (f'Bearer realm="{REALM}",scope="a,b c"', {"realm": REALM, "scope": "a,b c"}),
        (f'Bearer realm="{REALM}",service="a \\"quoted\\" name"', {"realm": REALM, "service": 'a "quoted" name'}),
        (f'Bearer realm="{REALM}",service="never ends', {"realm": REALM}),
        (f'Bearer realm="{REALM}",@@@,service="reg"', {"realm": REALM}),
    ],
)
def test_sloppy_lines_are_read_as_far_as_they_make_sense(line: str, expected: dict[str, str]) -> None:
    assert parse_challenges([line])[0].parameters == expected


@pytest.mark.parametrize(
    "lines",
    [
        [BEARER_LINE, 'Basic realm="reg"'],
        ['Basic realm="reg"', BEARER_LINE],
        [f'Basic realm="reg", {BEARER_LINE}'],
        [f"Basic, {BEARER_LINE}"],
        [f"Negotiate, {BEARER_LINE}"],
        [f"Negotiate YII/abc+def==, {BEARER_LINE}"],
        [f"NTLM TlRMTVNTUAAC, {BEARER_LINE}"],
        [f'Digest realm="x", nonce="y=", {BEARER_LINE}'],
        ['Bearer error="invalid_token"', BEARER_LINE],
        ["", "@", BEARER_LINE],
    ],
)
def test_the_bearer_challenge_is_found_among_others(lines: list[str]) -> None:
    chosen = choose_challenge(parse_challenges(lines))
    assert chosen is not None
    assert (chosen.scheme, chosen.realm, chosen.service) == (BEARER, REALM, "reg")


def test_basic_is_answered_where_there_is_no_usable_bearer() -> None:
    chosen = choose_challenge(parse_challenges(['Bearer service="no realm"', 'Basic realm="reg"']))
    assert chosen == Challenge(BASIC, {"realm": "reg"})


@pytest.mark.parametrize("lines", [[], [""], ["Negotiate"], ['Bearer service="x"'], ['realm="https://x"']])
def test_nothing_is_chosen_where_nothing_can_be_answered(lines: list[str]) -> None:
    assert choose_challenge(parse_challenges(lines)) is None


def test_what_is_endless_is_cut() -> None:
    long_line = 'Basic realm="' + "x" * 100_000 + '", ' + BEARER_LINE
    assert choose_challenge(parse_challenges([long_line, *["Custom x=y"] * 1000])) == Challenge(BASIC)
    assert len(parse_challenges(["Custom x=y"] * 1000)) == 16


@given(st.lists(st.text(st.characters() | st.sampled_from('",=\\ Beare'), max_size=60), max_size=3))
def test_no_line_raises(lines: list[str]) -> None:
    challenges = parse_challenges(lines)
    assert all(challenge.scheme == challenge.scheme.lower() for challenge in challenges)
    chosen = choose_challenge(challenges)
    assert chosen is None or chosen.scheme in {BASIC, BEARER}
