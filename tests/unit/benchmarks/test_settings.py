"""The settings of the baseline: those of the benchmark, with the changes of a file."""

from pathlib import Path

import pytest

from benchmarks.installation import BaselineError
from benchmarks.settings import merged, read_changes, settings


def file_of(directory: Path, text: str) -> Path:
    file = directory / "changes.yaml"
    file.write_text(text)
    return file


def changed(directory: Path, text: str) -> object:
    """The benchmark's settings with the changes of a file."""
    base = settings("127.0.0.1:1", "127.0.0.1:2", Path("/store"), None)
    return merged(base, read_changes(file_of(directory, text)))


BASE = {
    "version": 1,
    "listeners": [{"address": "127.0.0.1:2"}],
    "admin": None,
    "registries": {"docker.io": {"endpoints": ["http://127.0.0.1:1"]}},
    "defaultRegistry": "docker.io",
    "cache": {"path": "/store", "maxSize": "50Gi", "tagAge": "1h"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workers: 2", {"workers": 2}),
        ("admin: {address: 127.0.0.1:3}", {"admin": {"address": "127.0.0.1:3"}}),
        ("admin: null", {}),
        ("cache: {tagAge: 5m}", {"cache": {"path": "/store", "maxSize": "50Gi", "tagAge": "5m"}}),
        ("cache: {tagAge: null}", {"cache": {"path": "/store", "maxSize": "50Gi"}}),
        (
            "listeners: [{clients: {auth: none}}]",
            {"listeners": [{"address": "127.0.0.1:2", "clients": {"auth": "none"}}]},
        ),
    ],
)
def test_a_file_changes_only_what_it_names(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    assert changed(tmp_path, text) == BASE | expected


def test_a_null_removes_a_setting_that_an_older_revision_does_not_know(tmp_path: Path) -> None:
    expected = {name: value for name, value in BASE.items() if name != "defaultRegistry"}
    assert changed(tmp_path, "defaultRegistry: null") == expected


def test_the_certificate_of_the_run_stays_on_tls_listeners() -> None:
    assert merged({"listeners": [{"address": "a", "tls": {"certFile": "c"}}]}, {"listeners": [{"clients": {}}]}) == {
        "listeners": [{"address": "a", "tls": {"certFile": "c"}, "clients": {}}]
    }


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("cache: {path: /var/lib/scope-proxy}", "cache.path"),
        ("listeners: [{address: ':5000'}]", "listeners[0].address"),
        ("listeners: [{tls: {certFile: a, keyFile: b}}]", "listeners[0].tls"),
        ("registries: {docker.io: {endpoints: [https://example.com]}}", "registries.docker.io.endpoints"),
    ],
)
def test_what_the_benchmark_sets_itself_is_refused(tmp_path: Path, text: str, setting: str) -> None:
    with pytest.raises(BaselineError) as error:
        changed(tmp_path, text)
    assert str(error.value).startswith(f"remove {setting} from {tmp_path}/changes.yaml")


@pytest.mark.parametrize(("text", "reason"), [("[1", "is not YAML"), ("- 1", "is not a mapping"), ("", "is not a map")])
def test_a_file_without_settings_is_one_line_with_its_name(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BaselineError) as error:
        changed(tmp_path, text)
    assert f"{tmp_path}/changes.yaml {reason}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"cannot read .*/missing\.yaml: No such file or directory"):
        read_changes(tmp_path / "missing.yaml")
