"""Every error that a client can see stands in docs/errors.md, and nothing else does."""

import re

from proxy.oci.errors import ALL_ERRORS, RegistryError
from tests.docs.pages import section, text_of

PAGE = "docs/errors.md"
_ROW = re.compile(r"^\| \[`(\w+)`\]\(#(\w+)\) \| `(\w+)` \| (\d+) \| \S", re.MULTILINE)


def test_the_table_is_what_the_program_says() -> None:
    program = {(kind.__name__, kind.__name__.lower(), kind.code, str(kind.status)) for kind in ALL_ERRORS}
    assert set(_ROW.findall(text_of(PAGE))) == program


def test_every_error_has_its_section() -> None:
    for kind in ALL_ERRORS:
        assert section(PAGE, kind.__name__).strip().startswith(f"{kind.status} `{kind.code}`"), kind


def test_no_error_is_left_out_of_the_list() -> None:
    found: set[type[RegistryError]] = {RegistryError}
    while more := {kind for known in found for kind in known.__subclasses__()} - found:
        found |= more
    assert {kind for kind in found if kind.__module__ == RegistryError.__module__} == set(ALL_ERRORS)
