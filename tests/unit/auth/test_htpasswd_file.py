import os
from pathlib import Path

import pytest

from proxy.auth.inward.htpasswd import FILE_LIMIT, LINE_LIMIT, Htpasswd, parse_users

GOOD = "$2y$04$Yez2DCCDN88DqLIJKexXgO.UWFJDvRgV3rSejp9k/sHMMJmf8ZdLq"
"""Of "correct horse"; always the same one, since it names tests."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice:$apr1$ab$9xkF1xPwQvXn3nQ3Ff0wV0", "f:1: the password is hashed with MD5 (apr1)"),
        ("alice:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=", "f:1: the password is hashed with SHA-1"),
        ("alice:$6$salt$hash", "f:1: the password is hashed with SHA-512 (crypt)"),
        ("alice:rl5FVLGWFVyU2", "f:1: the password is not hashed with bcrypt"),
        ("alice:secret", "f:1: the password is not hashed with bcrypt"),
        ("alice:", "f:1: the password is not hashed with bcrypt"),
        (f"alice:{GOOD.replace('2y', '2x')}", "broken bcrypt"),
        (f"alice:{GOOD[:-1]}", "f:1: the password is hashed with bcrypt, but damaged"),
        (f"alice:{GOOD[:-1]}!", "damaged"),
        (f"alice:{GOOD[:28]}z{GOOD[29:]}", "damaged"),
        (f"alice:{GOOD}:more", "damaged"),
        (f"alice:{GOOD.replace('$04$', '$31$')}", "f:1: the cost of the hash is not 4 to 14"),
        (f"alice:{GOOD.replace('$04$', '$03$')}", "f:1: the cost of the hash is not 4 to 14"),
        (f"# c\nalice:{GOOD}\nsecretword", "f:3: the line is not USER:HASH"),
        (f":{GOOD}", "f:1: a user name must have 1 to 255"),
        (f"a\tb:{GOOD}", "f:1: a user name must have 1 to 255"),
        (f"{'a' * 256}:{GOOD}", "f:1: a user name must have 1 to 255"),
        (f"anonymous:{GOOD}", "f:1: anonymous is reserved for clients without a name"),
        (f"alice:{GOOD}\nalice:{GOOD}", "f:2: the user of this line is already in an earlier line"),
        ("\n" * LINE_LIMIT + "x", f"f has more than {LINE_LIMIT} lines"),
        (b"c\xe4rl:" + GOOD.encode(), "f:1: the line is not UTF-8 text"),
    ],
)
def test_what_is_wrong_in_a_file_is_reported_with_its_line_and_no_secret(text: str | bytes, message: str) -> None:
    (problem,) = parse_users(text if isinstance(text, bytes) else text.encode(), "f").problems
    assert problem.startswith("f")
    assert message in problem
    for secret in (GOOD[7:], "9xkF1x", "VBPuJ", "salt$hash", "rl5FV", "secret"):
        assert secret not in problem


def test_good_lines_count_whatever_the_others_are() -> None:
    bad = ("no colon", "carl:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=", f"anonymous:{GOOD}", f"alice:{GOOD[:-1]}Q")
    parsed = parse_users("\n".join((bad[0], f"alice:{GOOD}", *bad[1:], f"bob:{GOOD}")).encode(), "f")
    assert dict(parsed.content.hashes) == {"alice": GOOD.encode(), "bob": GOOD.encode()}
    assert (parsed.count, parsed.content.costs) == (2, (4, 4))
    assert [problem.partition(": ")[0] for problem in parsed.problems] == ["f:1", "f:3", "f:4", "f:5"]


def test_of_two_lines_of_one_user_the_first_that_is_good_counts() -> None:
    other = GOOD.replace("$2y$", "$2a$")
    parsed = parse_users(f"alice:x\nalice:{other}\nalice:{GOOD}\n".encode(), "f")
    assert parsed.content.hashes["alice"] == other.encode()
    assert len(parsed.problems) == 2


def test_lines_beyond_the_limit_do_not_count() -> None:
    parsed = parse_users(b"#\n" * LINE_LIMIT + f"alice:{GOOD}".encode(), "f")
    assert (parsed.count, len(parsed.problems)) == (0, 1)


def test_other_schemes_get_advice() -> None:
    (problem,) = parse_users(b"alice:secret", "f").problems
    assert problem.endswith("set it again with htpasswd -B")


def test_a_file_that_cannot_be_one_is_refused_at_the_start(tmp_path: Path) -> None:
    large, binary, pipe = tmp_path / "large", tmp_path / "binary", tmp_path / "pipe"
    empty, bad = tmp_path / "empty", tmp_path / "bad"
    empty.write_text("# nobody\n")
    bad.write_text("alice:secret\n")
    large.write_bytes(b"#" * (FILE_LIMIT + 1))
    binary.write_bytes(b"\xff\xfe")
    os.mkfifo(pipe)
    for path, message in (
        (large, "larger than 1024 KiB"),
        (empty, "names no user: add one with htpasswd -B .*/empty USER"),
        (bad, ":1: the password is not hashed with bcrypt"),
        (binary, "not UTF-8 text"),
        (pipe, "not a regular file"),
        (tmp_path, "not a regular file|Is a directory"),
        (tmp_path / "missing", "No such file"),
    ):
        with pytest.raises(ValueError, match=f"{path}.*({message})"):
            Htpasswd.open(path)


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    assert list(parse_users(b"\xef\xbb\xbfalice:" + GOOD.encode(), "f").content.hashes) == ["alice"]


def test_hashes_do_not_show() -> None:
    assert GOOD not in repr(parse_users(f"alice:{GOOD}".encode(), "f"))
