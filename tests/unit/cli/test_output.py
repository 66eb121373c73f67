"""What commands print and read, whatever the locale says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

CONFIG = """version: 1
registries:
  r.example: {endpoints: [https://m.example]}
hosts:
  m.example: {credentials: {username: "rob\u00f3t-\u65e5\u672c", password: hunter2}}
"""
REGISTRIES = """mirrors:
  r.example: {endpoint: [https://m.example]}
configs:
  m.example: {auth: {username: "rob\u00f3t-\u65e5\u672c", password: hunter2}}
"""
USER = "rob\u00f3t-\u65e5\u672c"
ENCODINGS = [{"PYTHONIOENCODING": encoding} for encoding in ("iso8859-9", "ascii", "utf-8")]
"""What a locale of this encoding does to the output; such a locale need not be on the machine."""


def run(locale: dict[str, str], *arguments: str | bytes | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "proxy", *arguments]
    return subprocess.run(command, env={**os.environ, **locale}, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("locale", ENCODINGS, ids=lambda locale: locale["PYTHONIOENCODING"])
def test_letters_that_the_locale_does_not_have_are_printed_as_utf_8(locale: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    ran = run(locale, "explain", "r.example/app:1", "--config", file)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert USER in ran.stdout.decode()


@pytest.mark.parametrize("locale", ENCODINGS, ids=lambda locale: locale["PYTHONIOENCODING"])
def test_a_converted_configuration_is_utf_8_whatever_the_locale(locale: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    file.write_text(REGISTRIES, encoding="utf-8")
    ran = run(locale, "convert", file)
    assert ran.returncode == 0, ran.stderr.decode()
    config = next(iter(YAML(typ="safe", pure=True).load_all(ran.stdout.decode())))
    assert config["hosts"]["m.example"]["credentials"]["username"] == USER


@pytest.mark.parametrize("locale", ENCODINGS, ids=lambda locale: locale["PYTHONIOENCODING"])
def test_a_file_name_that_is_no_text_is_printed(locale: dict[str, str], tmp_path: Path) -> None:
    file = os.fsencode(tmp_path) + b"/caf\xe9.yaml"
    Path(os.fsdecode(file)).write_text(CONFIG, encoding="utf-8")
    ran = run(locale, "check", "--config", file)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"registries: r.example" in ran.stdout


def test_a_list_of_images_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    file, listing = tmp_path / "config.yaml", tmp_path / "images"
    cache = {"path": str(tmp_path / "cache"), "reserveFree": "1Ki"}
    file.write_text(json.dumps({"version": 1, "cache": cache, "registries": {"r.example": {}}}), encoding="utf-8")
    listing.write_text(f"# {USER}\n", encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # Python then reads files as ASCII
    ran = run(plain, "cache", "prefetch", "--file", listing, "--config", file)
    assert "name at least one image" in ran.stderr.decode()
