"""`scope-proxy cache ls`, `rm`, `pin` and `unpin`."""

import json
import time
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from tests.fakes.bundles import CONTAINERD_NAME, layout, write_tar
from tests.unit.cli.test_cache import INDEX, MINI, config, contents, demo_image, registry, run, stored, with_cache

__all__ = ["config", "registry"]

UPSTREAM_MINI = "cp.icr.io/se-next-gen-docker-local/mini-test:1"


def listed(config: Path, *arguments: str) -> dict[str, dict[str, object]]:
    result = run(config, "ls", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return {str(item["image"]): item for item in json.loads(result.stdout)}


def test_ls_names_an_image_as_the_node_and_as_the_upstream(config: Path) -> None:
    run(config, "prefetch", MINI)
    image = demo_image("se-next-gen-docker-local/mini-test")
    item = listed(config)[MINI]
    assert (item["upstream"], item["digest"]) == (UPSTREAM_MINI, image.digest)
    assert (item["names"], item["platforms"]) == ([MINI], [image.platform])
    assert (item["complete"], item["pinned"]) == (True, False)
    assert item["size"] == len(image.manifest) + sum(map(len, image.blobs.values()))


def test_ls_prints_a_row_for_each_image_and_the_patterns_choose(config: Path) -> None:
    run(config, "prefetch", MINI, INDEX)
    lines = run(config, "ls").output.splitlines()
    assert [line.split()[0] for line in lines] == ["IMAGE", MINI, INDEX]
    assert list(listed(config, "docker.io/**")) == [INDEX]
    assert list(listed(config, "*.icr.io/*")) == [MINI]
    assert list(listed(config, UPSTREAM_MINI)) == [MINI]
    assert listed(config, "docker.io/library/*") == {}


def test_ls_tells_which_platforms_are_stored_whole(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", INDEX, "--platform", "linux/arm64", "--platform", "linux/amd64")
    assert listed(config)[INDEX]["platforms"] == ["linux/amd64", "linux/arm64"]
    index = demo_image("hmirror/rabbitmqoperator/cluster-operator")
    arm = next(platform for platform in index.platforms if platform.platform == "linux/arm64")
    layer = list(arm.blobs)[-1].partition(":")[2]
    next((tmp_path / "cache" / "blobs").rglob(layer)).unlink()
    item = listed(config)[INDEX]
    assert (item["platforms"], item["incompletePlatforms"]) == (["linux/amd64"], ["linux/arm64"])


@pytest.mark.parametrize("name", [MINI, UPSTREAM_MINI, "cp.icr.io/**", "cp.icr.io/mini-test:*"])
def test_rm_takes_what_ls_prints_and_patterns(config: Path, tmp_path: Path, name: str) -> None:
    run(config, "prefetch", MINI, INDEX)
    result = run(config, "rm", name)
    assert result.exit_code == 0, result.output
    assert stored(tmp_path) == contents(demo_image("hmirror/rabbitmqoperator/cluster-operator"))
    assert list(listed(config)) == [INDEX]


def test_rm_of_several_names_the_one_that_is_not_cached(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI)
    result = run(config, "rm", "cp.icr.io/other:1", MINI)
    assert result.exit_code == 1
    assert "cp.icr.io/other:1" in result.output
    assert stored(tmp_path) == set()


def import_images(config: Path, *images: tuple[Image, str]) -> None:
    bundle = write_tar(
        config.with_name("bundle.tar"), layout(*((image, {CONTAINERD_NAME: name}) for image, name in images))
    )
    names = sorted({name.partition("/")[0] for _, name in images})
    result = run(config, "import", str(bundle), *(word for name in names for word in ("--registry", name)))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("other", ["docker.io/library/app:2", "docker.io/library/other:1", "cp.icr.io/other:1"])
def test_rm_keeps_what_another_name_of_the_same_image_needs(config: Path, tmp_path: Path, other: str) -> None:
    image = demo_image("se-next-gen-docker-local/mini-test")
    import_images(config, (image, "docker.io/library/app:1"), (image, other))
    assert run(config, "rm", "docker.io/library/app:1").exit_code == 0
    assert listed(config)[other]["complete"]
    assert run(config, "rm", other).exit_code == 0
    assert stored(tmp_path) == set()


def test_rm_of_an_index_keeps_an_image_that_has_a_tag_elsewhere(config: Path, tmp_path: Path) -> None:
    """Whoever makes an index can name the manifests of others."""
    index = demo_image("hmirror/rabbitmqoperator/cluster-operator")
    import_images(config, (index, "docker.io/library/index:1"), (index.platforms[0], "cp.icr.io/single:1"))
    assert run(config, "rm", "docker.io/library/index:1").exit_code == 0
    assert stored(tmp_path) == contents(index.platforms[0])
    assert listed(config)["cp.icr.io/single:1"]["complete"]


def test_what_an_interrupted_pin_leaves_is_no_pin(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI)
    assert run(config, "pin", MINI).exit_code == 0
    [pin] = (tmp_path / "cache" / "pins").iterdir()
    pin.rename(pin.with_name(".temporary"))
    assert not listed(config)[MINI]["pinned"]


def test_pinned_image_survives_prune_until_it_is_unpinned(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI, INDEX)
    assert run(config, "pin", MINI).exit_code == 0
    assert listed(config)[MINI]["pinned"]
    assert run(config, "prune", "--to", "0Ki").exit_code == 1
    assert stored(tmp_path) == contents(demo_image("se-next-gen-docker-local/mini-test"))
    assert run(config, "unpin", MINI).exit_code == 0
    assert run(config, "prune", "--to", "0Ki").exit_code == 0
    assert stored(tmp_path) == set()
    assert run(config, "unpin", MINI).exit_code == 1


def test_images_that_the_configuration_keeps_are_pinned(config: Path, tmp_path: Path) -> None:
    run(config, "prefetch", MINI, INDEX)
    with_cache(config, keep=["docker.io/**"])
    assert run(config, "prune", "--to", "0Ki").exit_code == 1
    assert stored(tmp_path) == contents(demo_image("hmirror/rabbitmqoperator/cluster-operator"))


def test_image_without_a_tag_is_pinned_by_its_digest(config: Path, tmp_path: Path) -> None:
    image = demo_image("se-next-gen-docker-local/mini-test")
    name = f"{MINI.rpartition(':')[0]}@{image.digest}"
    assert run(config, "prefetch", name, INDEX).exit_code == 0
    assert run(config, "pin", name).exit_code == 0
    assert run(config, "prune", "--to", "0Ki").exit_code == 1
    assert stored(tmp_path) == contents(image)


def test_image_whose_tag_was_confirmed_by_a_clock_that_was_ahead_is_listed_and_pinned(
    config: Path, tmp_path: Path
) -> None:
    run(config, "prefetch", MINI, INDEX)
    [tag] = (tmp_path / "cache" / "repositories").glob("*/*/tags/1")
    tag.write_text(json.dumps({**json.loads(tag.read_text()), "confirmed": time.time() + 86400}))
    with_cache(config, keep=[MINI], offline=True)
    assert listed(config)[MINI]["pinned"]
    assert run(config, "prune", "--to", "0Ki").exit_code == 1
    assert stored(tmp_path) == contents(demo_image("se-next-gen-docker-local/mini-test"))


@pytest.mark.parametrize("pattern", ["", "two words", "nginx:*", "docker.io/Nginx:1", "docker.io/x@sha256:1"])
def test_pattern_that_names_no_image_is_a_usage_error(config: Path, pattern: str) -> None:
    assert run(config, "pin", pattern).exit_code == 2
