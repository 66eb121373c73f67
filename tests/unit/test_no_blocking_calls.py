"""The detector of tests/conftest.py detects."""

import asyncio
from pathlib import Path

import pytest
from blockbuster import BlockingError

from proxy.config.load import load_config


async def test_code_of_ours_that_blocks_the_event_loop_fails(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("version: 1\n")  # a test may block
    with pytest.raises(BlockingError):
        load_config(path)
    assert (await asyncio.to_thread(load_config, path)).config.version == 1


def test_without_an_event_loop_nothing_is_watched(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("version: 1\n")
    assert load_config(path).config.version == 1
