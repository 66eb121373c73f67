"""Virtual environments with a scope-proxy of their own, made in a moment and without any package index."""

import shutil
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
METADATA = "Metadata-Version: 2.1\nName: scope-proxy\nVersion: {version}\n"
PROGRAM = "from proxy.cli.main import main\nmain()\n"


def make_venv(directory: Path) -> Path:
    """An empty one; the directory of its packages."""
    venv.create(directory)
    return directory / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def install(directory: Path, version: str, *, editable: bool = False) -> Path:
    """One with a copy of the checkout, or with the checkout itself; its dependencies are ours. The package."""
    packages = make_venv(directory)
    if not editable:
        shutil.copytree(ROOT / "proxy", packages / "proxy", ignore=shutil.ignore_patterns("__pycache__"))
    paths = [str(ROOT)] * editable + [sysconfig.get_path("purelib")]
    (packages / "other.pth").write_text("\n".join(paths))
    metadata = packages / f"scope_proxy-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(METADATA.format(version=version))
    (metadata / "entry_points.txt").write_text("[console_scripts]\nscope-proxy = proxy.cli.main:main\n")
    (directory / "bin" / "scope-proxy").write_text(PROGRAM)
    return packages / "proxy"
