import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main
from proxy.testbed.answer import Bytes
from proxy.testbed.images import Image, demo_images, sha256
from proxy.testbed.library import HeldManifest
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Rules
from tests.fakes.app_thread import entered

MINI = "cp.icr.io/mini-test:1"
INDEX = "docker.io/rabbitmqoperator/cluster-operator:2.7.0"


@pytest.fixture
def registry() -> Iterator[StrictRegistry]:
    """A strict registry that lets everybody read."""
    server = StrictRegistry(demo_images(), Rules(refuse=404))
    with entered(server):
        yield server


@pytest.fixture
def config(registry: StrictRegistry, tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    rules = {"cp.icr.io": ("^(.+)$", "se-next-gen-docker-local/$1"), "docker.io": ("^(.+)$", "hmirror/$1")}
    registries = {
        name: {"endpoints": [registry.url], "rewrites": [{"pattern": pattern, "replacement": replacement}]}
        for name, (pattern, replacement) in rules.items()
    }
    cache = {"path": str(tmp_path / "cache"), "reserveFree": "1Ki"}
    file.write_text(json.dumps({"version": 1, "admin": None, "registries": registries, "cache": cache}))
    return file


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", *arguments, "--config", str(config)])


def stored(tmp_path: Path) -> set[str]:
    return {f"sha256:{file.name}" for file in (tmp_path / "cache" / "blobs").rglob("*") if file.is_file()}


def contents(image: Image) -> set[str]:
    platforms = set().union(*(contents(platform) for platform in image.platforms))
    return {image.digest, *image.blobs, *platforms}


def demo_image(repository: str) -> Image:
    return next(image for image in demo_images() if image.repository == repository)


def test_prefetch_stores_whole_images_and_says_so(config: Path, tmp_path: Path) -> None:
    result = run(config, "prefetch", MINI, INDEX)
    assert result.exit_code == 0, result.output
    assert f"{MINI}: " in result.output
    wanted = contents(demo_image("se-next-gen-docker-local/mini-test"))
    assert stored(tmp_path) == wanted | contents(demo_image("hmirror/rabbitmqoperator/cluster-operator"))


def test_prefetch_again_fetches_nothing(config: Path, registry: StrictRegistry) -> None:
    run(config, "prefetch", MINI)
    before = len(registry.record.of("blob"))
    result = run(config, "prefetch", MINI)
    assert "0 B of it fetched" in result.output
    assert len(registry.record.of("blob")) == before


def test_prefetch_of_one_platform_leaves_the_others(config: Path, tmp_path: Path) -> None:
    assert run(config, "prefetch", INDEX, "--platform", "linux/arm64").exit_code == 0
    index = demo_image("hmirror/rabbitmqoperator/cluster-operator")
    chosen = next(platform for platform in index.platforms if platform.platform == "linux/arm64")
    assert stored(tmp_path) == {index.digest} | contents(chosen)


def test_prefetch_reads_a_file_and_tells_what_failed(config: Path, tmp_path: Path) -> None:
    listing = tmp_path / "images.txt"
    listing.write_text(f"# images of the cluster\n{MINI}\ncp.icr.io/no-such:1  # gone\n")
    result = run(config, "prefetch", "--file", str(listing))
    assert result.exit_code == 1
    assert "cp.icr.io/no-such:1: failed: " in result.output
    assert "1 of 2 images failed" in result.output


def test_prefetch_of_nothing_is_refused(config: Path) -> None:
    assert run(config, "prefetch").exit_code == 2


def test_stat_and_ls_show_what_is_there(config: Path) -> None:
    run(config, "prefetch", MINI)
    assert "in 3 objects" in run(config, "stat").output
    image = demo_image("se-next-gen-docker-local/mini-test")
    assert MINI in run(config, "ls").output
    assert image.digest in run(config, "ls", "--blobs").output


def test_verify_removes_what_is_wrong_and_names_it(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI)
    assert run(config, "verify").exit_code == 0
    victim = next(file for file in (tmp_path / "cache" / "blobs").rglob("*") if file.is_file())
    victim.write_bytes(b"x" + victim.read_bytes()[1:])
    result = run(config, "verify")
    assert result.exit_code == 1
    assert f"sha256:{victim.name} is corrupt" in result.output
    assert not victim.exists()
    assert run(config, "verify").exit_code == 0


def test_rm_removes_an_image_and_keeps_what_others_need(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI, INDEX)
    result = run(config, "rm", MINI)
    assert result.exit_code == 0, result.output
    assert stored(tmp_path) == contents(demo_image("hmirror/rabbitmqoperator/cluster-operator"))
    assert MINI.partition("/")[2].partition(":")[0] not in run(config, "ls").output
    assert run(config, "rm", MINI).exit_code == 1


@pytest.mark.parametrize(
    "more", ['"annotations": {"a": "1", "a": "2"}', '"Layers": []', '"layers": {}', '"mediaType": "application/x"']
)
def test_an_image_that_can_be_read_in_two_ways_fails_and_ends_no_other(
    config: Path, registry: StrictRegistry, more: str
) -> None:
    image = demo_image("se-next-gen-docker-local/mini-test")
    _publish(registry, image, f"{image.manifest.decode().rstrip()[:-1]}, {more}}}".encode())
    result = run(config, "prefetch", "cp.icr.io/mini-test:odd", MINI)
    assert result.exit_code == 1
    assert "cp.icr.io/mini-test:odd: failed: " in result.output
    assert "1 of 2 images failed" in result.output


def test_bytes_that_are_no_utf_8_keep_no_image_out(config: Path, registry: StrictRegistry, tmp_path: Path) -> None:
    image = demo_image("se-next-gen-docker-local/mini-test")
    text = image.manifest.rstrip()[:-1]
    _publish(registry, image, text + b', "annotations": {"a": "\xff\xfe"}, "n": ' + b"9" * 5000 + b"}")
    result = run(config, "prefetch", "cp.icr.io/mini-test:odd")
    assert result.exit_code == 0, result.output
    assert set(image.blobs) < stored(tmp_path)


def _publish(registry: StrictRegistry, image: Image, content: bytes) -> None:
    held = registry.library.repository(image.repository)
    held.manifests[sha256(content)] = HeldManifest(sha256(content), image.media_type, Bytes(content))
    held.tags["odd"] = sha256(content)


def with_cache(config: Path, **cache: str | bool | list[str]) -> None:
    """Change the bounds of the cache."""
    settings = json.loads(config.read_text())
    settings["cache"] |= cache
    config.write_text(json.dumps(settings))


@pytest.mark.parametrize("bounds", [{}, {"maxSize": "900000Ti"}, {"maxSize": "1Gi", "reserveFree": "900000Ti"}])
def test_prune_goes_down_to_a_size(config: Path, tmp_path: Path, bounds: dict[str, str]) -> None:
    """The disk may have less free than maxSize, or less than reserveFree: that is nothing to this command."""
    run(config, "prefetch", MINI, INDEX)
    assert stored(tmp_path)
    with_cache(config, **bounds)
    result = run(config, "prune", "--to", "0Ki")
    assert result.exit_code == 0, result.output
    assert stored(tmp_path) == set()


def test_prune_to_a_size_removes_no_more_than_it_has_to(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI, INDEX)
    before = stored(tmp_path)
    assert run(config, "prune", "--to", "1Gi").exit_code == 0
    assert stored(tmp_path) == before
    sizes = sum(file.stat().st_size for file in (tmp_path / "cache" / "blobs").rglob("*") if file.is_file())
    assert run(config, "prune", "--to", f"{(sizes - 1) / 1024:.3f}Ki").exit_code == 0
    assert len(stored(tmp_path)) == len(before) - 1


def test_prune_says_why_the_cache_stays_beyond_its_bounds(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI)
    with_cache(config, reserveFree="900000Ti")
    result = run(config, "prune")
    assert result.exit_code == 1
    assert "reserveFree" in result.output
    assert stored(tmp_path) == contents(demo_image("se-next-gen-docker-local/mini-test"))


@pytest.mark.slow  # it waits for the other process
@pytest.mark.parametrize("arguments", [[], ["--to", "0Ki"]], ids=["to-its-bounds", "to-a-size"])
def test_prune_says_that_another_process_removes_objects(config: Path, tmp_path: Path, arguments: list[str]) -> None:
    run(config, "prefetch", MINI)
    with_cache(config, reserveFree="900000Ti")
    with (tmp_path / "cache" / "evict.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run(config, "prune", *arguments)
    assert result.exit_code == 1
    assert "another process is removing objects" in result.output
    assert "reserveFree" not in result.output


def test_without_a_cache_every_command_says_so(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("version: 1\nregistries: {docker.io: {}}\n")
    for arguments in (["stat"], ["ls"], ["verify"], ["prune"], ["rm", MINI], ["prefetch", MINI]):
        result = run(file, *arguments)
        assert result.exit_code == 2
        assert "no cache is configured" in result.output
