"""What tells that a file has changed."""

import os
from pathlib import Path

from proxy.config.files import state_of


def test_another_content_is_another_state(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert state_of(file) is None
    file.write_text("one")
    before = state_of(file)
    assert before == state_of(file)
    (tmp_path / "fresh").write_text("two")
    (tmp_path / "fresh").rename(file)
    assert state_of(file) not in {None, before}


def test_what_is_no_regular_file_has_no_state(tmp_path: Path) -> None:
    """A pipe changes by being read, and would be read again and again."""
    os.mkfifo(tmp_path / "pipe")
    assert state_of(tmp_path / "pipe") is state_of(tmp_path) is None
