"""`cache export` and `cache import`: from one cache to another that has no network."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main
from proxy.testbed.images import Image, demo_images, make_image
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Rules
from tests.fakes.app_thread import entered
from tests.fakes.bundles import (
    CONTAINERD_NAME,
    REF_NAME,
    blob_path,
    indexed,
    layout,
    listed,
    read_tar,
    write_tar,
)

MINI = "cp.icr.io/mini-test:1"
INDEX = "docker.io/rabbitmqoperator/cluster-operator:2.7.0"
RULES = {"cp.icr.io": ("^(.+)$", "se-next-gen-docker-local/$1"), "docker.io": ("^(.+)$", "hmirror/$1")}
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def registry() -> Iterator[StrictRegistry]:
    """A strict registry that lets everybody read."""
    server = StrictRegistry(demo_images(), Rules(refuse=404))
    with entered(server):
        yield server


def configuration(path: Path, url: str, **cache: Any) -> Path:
    """A configuration whose cache lies beside it."""
    path.mkdir(exist_ok=True)
    registries = {
        name: {"endpoints": [url], "rewrites": [{"pattern": pattern, "replacement": replacement}]}
        for name, (pattern, replacement) in RULES.items()
    }
    section = {"path": str(path / "cache"), "reserveFree": "1Ki", **cache}
    (path / "config.yaml").write_text(
        json.dumps({"version": 1, "admin": None, "registries": registries, "cache": section})
    )
    return path / "config.yaml"


@pytest.fixture
def source(registry: StrictRegistry, tmp_path: Path) -> Path:
    """Where there is a network."""
    return configuration(tmp_path / "source", registry.url)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where there is none."""
    return configuration(tmp_path / "target", NOWHERE, offline=True)


def run(config: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["cache", *map(str, arguments), "--config", str(config)])


def good(config: Path, *arguments: str | Path) -> str:
    result = run(config, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(config: Path, *arguments: str | Path) -> str:
    """The one error of a command that fails."""
    result = run(config, *arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    [line] = result.output.strip().splitlines()
    return line


def stored(config: Path) -> set[str]:
    return {f"sha256:{file.name}" for file in (config.parent / "cache" / "blobs").rglob("*") if file.is_file()}


def demo(repository: str) -> Image:
    return next(image for image in demo_images() if image.repository == repository)


def digests(image: Image) -> set[str]:
    return {image.digest, *image.blobs}.union(*map(digests, image.platforms))


@pytest.fixture
def bundle(source: Path, tmp_path: Path) -> Path:
    """A bundle of both images."""
    good(source, "prefetch", MINI, INDEX)
    good(source, "export", MINI, INDEX, "-o", tmp_path / "bundle.tar")
    return tmp_path / "bundle.tar"


def test_images_go_from_one_cache_to_another(bundle: Path, target: Path) -> None:
    output = good(target, "import", bundle, "--registry", "cp.icr.io", "--registry", "docker.io")
    assert [line.partition(": ")[0] for line in output.splitlines()] == [MINI, INDEX]
    wanted = digests(demo("se-next-gen-docker-local/mini-test"))
    assert stored(target) == wanted | digests(demo("hmirror/rabbitmqoperator/cluster-operator"))
    listing = good(target, "ls")
    assert MINI in listing
    assert INDEX in listing
    assert "0 removed" in good(target, "verify")
    assert good(target, "prefetch", MINI, INDEX).count(", 0 B of it fetched") == 2  # whole, without a network


def test_a_bundle_is_an_oci_layout_with_an_index_of_names(bundle: Path) -> None:
    files = read_tar(bundle)
    assert list(files)[:2] == ["oci-layout", "index.json"]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert (index["schemaVersion"], index["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
    names = [entry["annotations"] for entry in index["manifests"]]
    assert names == [{CONTAINERD_NAME: name, REF_NAME: name} for name in (MINI, INDEX)]
    blobs = set(files) - {"oci-layout", "index.json"}
    wanted = digests(demo("se-next-gen-docker-local/mini-test"))
    assert blobs == {
        blob_path(digest) for digest in wanted | digests(demo("hmirror/rabbitmqoperator/cluster-operator"))
    }


def test_the_same_images_make_the_same_bundle(bundle: Path, source: Path, tmp_path: Path) -> None:
    good(source, "export", INDEX, MINI, MINI, "--output", tmp_path / "second.tar")
    assert (tmp_path / "second.tar").read_bytes() == bundle.read_bytes()


def test_an_image_by_digest_travels_as_well(source: Path, target: Path, tmp_path: Path) -> None:
    digest = demo("se-next-gen-docker-local/mini-test").digest
    name = f"cp.icr.io/mini-test@{digest}"
    good(source, "prefetch", MINI)
    good(source, "export", name, "-o", tmp_path / "b.tar")
    assert good(target, "import", tmp_path / "b.tar", "--registry", "cp.icr.io").startswith(f"{name}: ")
    good(target, "prefetch", name)


def test_platforms_that_are_not_complete_stay_out(source: Path, target: Path, tmp_path: Path) -> None:
    good(source, "prefetch", INDEX, "--platform", "linux/arm64")
    output = good(source, "export", INDEX, "-o", tmp_path / "b.tar")
    assert "1 of its manifests left out: not complete in the cache" in output
    output = good(target, "import", tmp_path / "b.tar", "--registry", "docker.io")
    assert "1 manifests of other platforms are not in the bundle" in output
    good(target, "prefetch", INDEX, "--platform", "linux/arm64")
    assert "offline: " in run(target, "prefetch", INDEX, "--platform", "linux/amd64").output


def test_what_is_not_in_the_cache_is_not_exported(source: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar"
    bundle.write_text("before")
    line = refused(source, "export", MINI, "-o", bundle)
    assert line == f"scope-proxy: {bundle}: {MINI} is not in the cache: run 'scope-proxy cache prefetch {MINI}' first"
    good(source, "prefetch", MINI)
    [layer] = list(demo("se-next-gen-docker-local/mini-test").blobs)[-1:]
    [file] = (source.parent / "cache").glob(f"blobs/*/*/{layer.partition(':')[2]}")
    content = file.read_bytes()
    file.unlink()
    assert "is not complete in the cache" in refused(source, "export", MINI, "-o", bundle)
    file.write_bytes(bytes(len(content)))
    assert f"{layer} is corrupt in the cache" in refused(source, "export", MINI, "-o", bundle)
    assert bundle.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "source"]


def test_a_bundle_that_cannot_be_written_is_one_error(source: Path, tmp_path: Path) -> None:
    good(source, "prefetch", MINI)
    path = tmp_path / "no-such" / "b.tar"
    assert refused(source, "export", MINI, "-o", path).endswith(
        f"{path}: it cannot be written: No such file or directory"
    )


def test_images_of_another_registry_are_refused(bundle: Path, target: Path) -> None:
    line = refused(target, "import", bundle, "--registry", "docker.io")
    assert line.endswith(f"{MINI} is an image of another registry: if that is meant, add --registry cp.icr.io")
    assert stored(target) == set()


def test_a_registry_that_is_not_configured_is_refused(target: Path, tmp_path: Path) -> None:
    bundle = write_tar(tmp_path / "b.tar", layout((make_image("a", "1"), {REF_NAME: "quay.io/a:1"})))
    assert "registry quay.io is not configured" in refused(target, "import", bundle, "--registry", "quay.io")


@pytest.mark.parametrize(
    ("annotations", "options", "name"),
    [
        ({REF_NAME: "cp.icr.io/app:2"}, [], "cp.icr.io/app:2"),
        ({REF_NAME: "2", CONTAINERD_NAME: "cp.icr.io/app:2"}, [], "cp.icr.io/app:2"),
        ({REF_NAME: "app:2"}, [], "cp.icr.io/app:2"),
        ({REF_NAME: "team/app:2"}, [], "cp.icr.io/team/app:2"),
        ({REF_NAME: "2"}, ["--name", "cp.icr.io/app:2"], "cp.icr.io/app:2"),
        ({}, ["--name", "app:2"], "cp.icr.io/app:2"),
    ],
)
def test_names_as_other_tools_write_them(
    target: Path, tmp_path: Path, annotations: dict[str, str], options: list[str], name: str
) -> None:
    bundle = write_tar(tmp_path / "b.tar", layout((make_image("app", "2"), annotations)))
    assert good(target, "import", bundle, "--registry", "cp.icr.io", *options).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({REF_NAME: "2"}, "has only the tag '2' in it: add --name cp.icr.io/REPOSITORY:TAG"),
        ({}, "has no name in it: add --name cp.icr.io/REPOSITORY:TAG"),
        ({REF_NAME: "cp.icr.io/../x:1"}, "the name 'cp.icr.io/../x:1' in it is invalid"),
        ({REF_NAME: "cp.icr.io/app@sha256:" + "0" * 64}, "has the digest sha256:"),
    ],
)
def test_names_that_are_not_clear_are_refused(
    target: Path, tmp_path: Path, annotations: dict[str, str], words: str
) -> None:
    bundle = write_tar(tmp_path / "b.tar", layout((make_image("app", "2"), annotations)))
    assert words in refused(target, "import", bundle, "--registry", "cp.icr.io")


def test_one_name_for_two_images_is_refused(target: Path, tmp_path: Path) -> None:
    one, other = make_image("app", "1"), make_image("app", "2", {"other": b"file"})
    bundle = write_tar(
        tmp_path / "b.tar", layout((one, {REF_NAME: "cp.icr.io/a:1"}), (other, {REF_NAME: "cp.icr.io/a:1"}))
    )
    assert "two images with the name cp.icr.io/a:1" in refused(target, "import", bundle, "--registry", "cp.icr.io")
    assert "--name is for a bundle of one" in refused(
        target, "import", bundle, "--registry", "cp.icr.io", "--name", "cp.icr.io/b:1"
    )


def test_what_does_not_fit_is_refused_before_anything_is_evicted(
    bundle: Path, registry: StrictRegistry, tmp_path: Path
) -> None:
    small = configuration(tmp_path / "small", registry.url, maxSize="2Ki")
    line = refused(small, "import", bundle, "--registry", "cp.icr.io", "--registry", "docker.io")
    assert "cache.maxSize is 2.0 KiB: raise it, or import fewer" in line
    assert stored(small) == set()


def test_pinned_images_that_leave_no_room_for_an_import_are_the_reason(
    registry: StrictRegistry, tmp_path: Path
) -> None:
    config = configuration(tmp_path / "pinned", registry.url, maxSize="5Mi")
    for tag in ("1", "2"):
        image = make_image("app", tag, {"file": random.Random(tag).randbytes(3 << 20)})  # noqa: S311 - does not compress
        write_tar(tmp_path / f"{tag}.tar", layout((image, {REF_NAME: f"cp.icr.io/app:{tag}"})))
    good(config, "import", tmp_path / "1.tar", "--registry", "cp.icr.io")
    good(config, "pin", "cp.icr.io/app:1")
    line = refused(config, "import", tmp_path / "2.tar", "--registry", "cp.icr.io")
    assert "there is no room for 3.0 MiB beside the pinned images" in line
    assert "cache unpin" in line


def test_a_second_import_changes_nothing(bundle: Path, target: Path) -> None:
    for _ in range(2):
        good(target, "import", bundle, "--registry", "cp.icr.io", "--registry", "docker.io")
    assert "0 removed" in good(target, "verify")


def test_an_import_replaces_a_stored_file_of_the_wrong_size(bundle: Path, target: Path) -> None:
    options = ("--registry", "cp.icr.io", "--registry", "docker.io")
    good(target, "import", bundle, *options)
    [layer] = list(demo("se-next-gen-docker-local/mini-test").blobs)[-1:]
    [file] = (target.parent / "cache").glob(f"blobs/*/*/{layer.partition(':')[2]}")
    file.write_bytes(b"cut")
    good(target, "import", bundle, *options)
    assert "0 removed" in good(target, "verify")


def test_a_moved_tag_is_what_the_last_import_says(target: Path, tmp_path: Path) -> None:
    one, other = make_image("app", "1"), make_image("app", "1", {"other": b"file"})
    for image in (one, other):
        bundle = write_tar(tmp_path / "b.tar", layout((image, {REF_NAME: "cp.icr.io/app:1"})))
        good(target, "import", bundle, "--registry", "cp.icr.io")
    lines = good(target, "ls").splitlines()[1:]
    assert len(lines) == 1, lines
    assert other.digest[7:19] in lines[0]


def test_no_cache_and_no_file_are_usage_errors(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("version: 1\nregistries: {docker.io: {}}\n")
    for arguments in (
        ("export", MINI, "-o", tmp_path / "b.tar"),
        ("import", tmp_path / "b.tar", "--registry", "docker.io"),
    ):
        result = run(config, *arguments)
        assert (result.exit_code, "no cache is configured" in result.output) == (2, True)
    assert run(config, "export", MINI).exit_code == 2
    assert run(config, "import", tmp_path / "b.tar").exit_code == 2


def test_a_nested_index_is_imported_as_a_whole(target: Path, tmp_path: Path) -> None:
    image = make_image("app", "1")
    inner = index_of(image.manifest, image.media_type)
    outer = index_of(inner, "application/vnd.oci.image.index.v1+json")
    files = layout((image, {}))
    entry = listed(outer, "application/vnd.oci.image.index.v1+json", {REF_NAME: "cp.icr.io/app:1"})
    more = {blob_path(listed(each, "")["digest"]): each for each in (inner, outer)}
    bundle = write_tar(tmp_path / "b.tar", {**files, **more, **indexed([entry])})
    good(target, "import", bundle, "--registry", "cp.icr.io")
    assert len(stored(target)) == 3 + len(image.blobs)


def index_of(manifest: bytes, media_type: str) -> bytes:
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listed(manifest, media_type)],
    }
    return json.dumps(index).encode()


@pytest.mark.parametrize("target", ["device", "link"])
def test_an_export_replaces_no_device_and_no_link(source: Path, tmp_path: Path, target: str) -> None:
    """As root, `-o /dev/null` would make a file of the device."""
    good(source, "prefetch", MINI)
    path = tmp_path / target
    if target == "device":
        os.mkfifo(path)
    else:
        path.symlink_to("elsewhere")
    before = path.lstat()
    assert "a file must not replace" in refused(source, "export", MINI, "-o", path)
    assert path.lstat() == before
