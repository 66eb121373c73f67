"""What is started of scope-proxy: the checkout, and the baseline of a virtual environment."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.installation import REVISION_FILE, BaselineError, checkout, installed
from tests.fakes.venvs import ROOT, install, make_venv


def test_the_checkout_is_what_is_imported_here() -> None:
    assert checkout().package == ROOT / "proxy"


def test_a_baseline_is_the_package_of_its_virtual_environment(tmp_path: Path) -> None:
    package = install(tmp_path / "venv", "0.0.7")
    (tmp_path / "venv" / REVISION_FILE).write_text("0123456789ab\n")
    baseline = installed(tmp_path / "venv")
    assert (baseline.version, baseline.revision, baseline.package) == ("0.0.7", "0123456789ab", package)


def test_a_baseline_cannot_import_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = install(tmp_path / "venv", "0.0.7")
    (package / "cli" / "main.py").write_text("def main() -> None:\n    print('the baseline')\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    baseline = installed(tmp_path / "venv")
    done = subprocess.run(
        [*baseline.command, "serve"], cwd=ROOT, env=baseline.environment, capture_output=True, text=True, check=False
    )
    assert (baseline.package, done.stdout) == (package, "the baseline\n")


def test_a_relative_path_is_one_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = install(tmp_path / "venv", "0.0.7")
    monkeypatch.chdir(tmp_path)
    assert installed(Path("venv")).package == package


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"missing has no bin/python; make one with `make baseline REV=<commit>`$"):
        installed(tmp_path / "missing")


def test_a_virtual_environment_without_scope_proxy_is_refused(tmp_path: Path) -> None:
    make_venv(tmp_path / "venv")
    with pytest.raises(BaselineError, match=r"venv has no bin/scope-proxy; make one with"):
        installed(tmp_path / "venv")


def test_a_program_without_its_package_is_refused_in_one_line(tmp_path: Path) -> None:
    packages = install(tmp_path / "venv", "0.0.7").parent
    shutil.rmtree(packages / "proxy")
    (packages / "other.pth").unlink()
    with pytest.raises(BaselineError) as error:
        installed(tmp_path / "venv")
    assert str(error.value).startswith(f"{tmp_path}/venv has no working scope-proxy: ")
    assert "\n" not in str(error.value)


def test_an_editable_installation_of_the_checkout_is_no_baseline(tmp_path: Path) -> None:
    install(tmp_path / "venv", "0.0.7", editable=True)
    with pytest.raises(
        BaselineError, match=r"venv runs the checkout itself, .*: install the baseline without pip's -e"
    ):
        installed(tmp_path / "venv")
