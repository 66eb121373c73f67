from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.descriptor import OCI_MANIFEST
from proxy.oci.reference import Digest
from proxy.routing.table import RepositoryKey
from proxy.store.layout import Layout
from tests.unit.store.support import made, put_file

BLOB = Digest.of(b"blob")


def test_blobs_lie_two_levels_deep_under_their_digest(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.blob(BLOB) == tmp_path / "blobs" / "sha256" / BLOB.hex[:2] / BLOB.hex


def test_blobs_of_both_algorithms_are_listed(tmp_path: Path) -> None:
    layout = made(tmp_path)
    digests = {put_file(layout, b"blob"), Digest.of(b"long", "sha512")}
    path = layout.blob(Digest.of(b"long", "sha512"))
    path.parent.mkdir()
    path.write_bytes(b"long")
    assert set(layout.blobs()) == digests


def test_odd_files_are_passed_over(tmp_path: Path) -> None:
    layout = made(tmp_path)
    digest = put_file(layout, b"blob")
    directory = layout.blob(digest).parent
    (directory / "notes.txt").write_text("x")
    (directory / ("0" * 64)).mkdir()
    (directory / f"{directory.name}{'1' * 62}").symlink_to(layout.blob(digest))
    (layout.root / "blobs" / "sha256" / "stray").write_text("x")
    (layout.root / "blobs" / "md5").mkdir()
    wrong_directory = layout.root / "blobs" / "sha256" / "zz"
    wrong_directory.mkdir()
    (wrong_directory / digest.hex).write_bytes(b"blob")
    other = next(name for name in ("00", "11") if name != directory.name)
    (layout.root / "blobs" / "sha256" / other).mkdir()
    (layout.root / "blobs" / "sha256" / other / digest.hex).write_bytes(b"not where it is looked for")
    assert list(layout.blobs()) == [digest]


def test_links_are_read_from_the_manifests(tmp_path: Path) -> None:
    layout = made(tmp_path)
    text = f'{{"schemaVersion": 2, "mediaType": "{OCI_MANIFEST}", "config": {{"digest": "{BLOB}"}}, "layers": []}}'
    manifest = put_file(layout, text.encode())
    evicted = Digest.of(b"an evicted manifest")
    marks = layout.repository("key") / "manifests"
    marks.mkdir(parents=True)
    (marks.parent / "key.json").write_text('{"key": "key"}')
    for name in (str(manifest).replace(":", "-"), str(evicted).replace(":", "-"), "odd", ".hidden", "sha256-zz"):
        (marks / name).touch()
    links = {found: {(str(link.digest), link.kind) for link in links} for _, found, links in layout.marked_manifests(9)}
    assert links == {
        manifest: {(str(manifest), "manifest"), (str(BLOB), "blob")},
        evicted: {(str(evicted), "manifest")},
    }


def test_a_repository_whose_key_cannot_be_read_has_no_links(tmp_path: Path) -> None:
    layout = made(tmp_path)
    for number, text in enumerate(["", "{}", "[]", '{"key": 1}', "[" * 5000, "x" * 100_000]):
        marks = layout.repository(str(number)) / "manifests"
        marks.mkdir(parents=True)
        (marks.parent / "key.json").write_text(text)
        (marks / str(BLOB).replace(":", "-")).touch()
    assert list(layout.marked_manifests(2000)) == []


names = st.text(st.sampled_from('ab/"[],\\ '), max_size=6)
keys = st.builds(RepositoryKey, names, st.lists(names, max_size=3).map(tuple))


@given(one=keys, other=keys)
def test_different_repositories_never_share_a_directory(one: RepositoryKey, other: RepositoryKey) -> None:
    layout = Layout(Path("/store"))
    assert (layout.repository(str(one)) == layout.repository(str(other))) == (one == other)
    assert layout.repository(str(one)).is_relative_to(layout.repositories)
