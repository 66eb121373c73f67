"""The conformance suite of the OCI distribution specification: pushes its own content, or reads what is there."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.processes import run, scratch
from tests.tools.catalogue import CONFORMANCE

PUSHED_TO = "conformance/repo1"
"""The repository that the content is pushed to."""
REPORT_WRITTEN = (0, 1)
"""Exit statuses of a suite that wrote its report: no failure, some failures."""
NO_DELETES = {f"OCI_API_{kind}_DELETE": "false" for kind in ("BLOBS", "MANIFESTS", "TAGS")}
NAME = "OCI Conformance Test"
WITHOUT_CONTENT = ("ping", "empty", "missing-manifest", "invalid-digest-format")
"""The parts of the suite that read and need no content."""
_REQUEST = re.compile(r"^Method: (?P<method>\S+)\nURL: http://[^/]+/v2/(?P<path>\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a run: what it is called, its first request without the repository, and how it ended.

    `request` is empty where the suite draws the reference at random. `status` is passed, failure, skipped or error.
    """

    name: str
    request: str
    status: str
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other tests of one run: the suite calls all tests of its blobs alike."""
        return self.name, self.request


@dataclass(frozen=True, slots=True)
class Content:
    """What a repository holds."""

    tags: tuple[str, ...]
    manifests: tuple[str, ...]
    blobs: tuple[str, ...]

    def settings(self) -> dict[str, str]:
        """The suite's settings for reading it."""
        lists = {"TAGS": self.tags, "MANIFESTS": self.manifests, "BLOBS": self.blobs, "REFERRERS": self.manifests}
        return {f"OCI_RO_DATA_{name}": " ".join(values) for name, values in lists.items()}


def content_of(store: Path, repository: str) -> Content:
    """Everything in a repository, tagged or not, as the files of docker-registry have it."""
    root = store / "docker/registry/v2/repositories" / repository
    tags = sorted(path.name for path in (root / "_manifests/tags").iterdir())
    return Content(tuple(tags), _digests(root / "_manifests/revisions"), _digests(root / "_layers"))


def _digests(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(f"{path.parent.parent.name}:{path.parent.name}" for path in directory.glob("*/*/link")))


def read(address: str, repository: str, content: Content, login: tuple[str, str] = ("", "")) -> list[Case]:
    """Every test that only reads, at `address`.

    One run for each part: where pushing is disabled, a run of all parts ends before it has written its report.
    """
    user, password = login
    settings = {
        "OCI_API_PUSH": "false",
        "OCI_REPO1": repository,
        "OCI_USERNAME": user,
        "OCI_PASSWORD": password,
    }
    cases = _run(address, {**settings, **content.settings(), "OCI_FILTER_TEST": f"{NAME}/read-only"})
    for part in WITHOUT_CONTENT:
        cases += _run(address, {**settings, "OCI_FILTER_TEST": f"{NAME}/{part}"})
    return cases


def push_and_read(address: str, repository: str) -> list[Case]:
    """Every test but those that delete, at `address`; the content is new and stays in `repository`."""
    # Only here: of a manifest whose bytes the suite does not know it never sees the header, and fails.
    strict = {"OCI_API_MANIFESTS_DIGEST_HEADER": "true"}
    return _run(address, {"OCI_REPO1": repository, "OCI_REPO2": f"{repository}-mounted", **strict})


def passes(cases: list[Case]) -> Counter[str]:
    """How many tests of each name passed; the suite takes its manifests in an order that differs in each run."""
    return Counter(case.name for case in cases if case.status == "passed")


def by_key(cases: list[Case]) -> Mapping[tuple[str, str], Case]:
    """The tests that made a request; each is there once."""
    counted = Counter(case.key for case in cases if case.status != "skipped")
    assert set(counted.values()) == {1}, counted.most_common(3)
    return {case.key: case for case in cases if case.status != "skipped"}


def _run(address: str, more: Mapping[str, str]) -> list[Case]:
    with scratch("conformance") as directory:
        settings = {
            "OCI_CONFIGURATION": "/dev/null",
            "OCI_REGISTRY": address,
            "OCI_TLS": "disabled",
            "OCI_RESULTS_DIR": str(directory),
            "OCI_LOG": "error",
            "OCI_API_BLOBS_DIGEST_HEADER": "true",
            **NO_DELETES,
            **more,
        }
        done = run([str(CONFORMANCE.path / "conformance")], env=settings)
        report = directory / "junit.xml"
        assert done.status in REPORT_WRITTEN, done.errors
        assert report.exists(), done.errors
        tests = ET.parse(report).iter("testcase")  # noqa: S314 - the suite's own report
        return [_case(element, more["OCI_REPO1"]) for element in tests]


def _case(element: ET.Element, repository: str) -> Case:
    name = element.attrib["name"].removeprefix(f"{NAME}/")
    request = _REQUEST.search(element.findtext("system-err", "")) if name.startswith("read-only/") else None
    path = request["path"].removeprefix(f"{repository}/") if request else ""
    first = f"{request['method']} {path}" if request else ""
    return Case(name, first, element.attrib["status"], element.findtext("system-out", ""))
