"""crane, which reads and writes OCI image layouts as directories."""

import tarfile
from pathlib import Path

from tests.real.processes import Outcome, run
from tests.tools.catalogue import CRANE


def crane(*arguments: str | Path) -> Outcome:
    """Run crane with no credentials; every registry of the tests speaks plain HTTP."""
    return run([str(CRANE.path / "crane"), *map(str, arguments), "--insecure"], env={"DOCKER_CONFIG": "/nonexistent"})


def packed(layout: Path, bundle: Path) -> Path:
    """A layout as one tar, as `tar -C layout -cf bundle.tar .` writes it."""
    with tarfile.open(bundle, "w") as archive:
        archive.add(layout, arcname=".")
    return bundle


def unpacked(bundle: Path, layout: Path) -> Path:
    """The layout of a bundle."""
    with tarfile.open(bundle) as archive:
        archive.extractall(layout, filter="data")
    return layout
