import pytest

from proxy.config.load import Loaded, parse_config
from proxy.doctor.subject import HostUnknown, choose
from proxy.oci.errors import NameInvalid, RegistryUnknown

TEXT = """version: 1
registries:
  icr.io:
    endpoints: [https://a.example.com, https://b.example.com:8443/v2/team]
    rewrites: [{pattern: '^cpopen/(.+)$', replacement: 'local/$1'}]
  cp.icr.io: {endpoints: [https://a.example.com/v2/cp]}
  docker.io: {}
  "*": {endpoints: [https://c.example.com/api/docker/all]}
"""


@pytest.fixture
def loaded() -> Loaded:
    return parse_config(TEXT, "c.yaml")


def hosts(loaded: Loaded, what: str | None) -> list[str]:
    return [subject.host for subject in choose(loaded, what)]


def test_without_an_argument_each_endpoint_gets_one_request(loaded: Loaded) -> None:
    subjects = choose(loaded, None)
    assert [str(subject.ping) for subject in subjects] == [
        "https://a.example.com/v2/",
        "https://b.example.com:8443/v2/",
        "https://registry-1.docker.io/v2/",
        "https://c.example.com/api/docker/all/",
    ]
    assert [subject.place for subject in subjects] == ["c.yaml:4:17", "c.yaml:4:40", "c.yaml:7:3", "c.yaml:8:21"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("a.example.com", ["a.example.com"]),
        ("A.example.com", ["a.example.com"]),
        ("a.example.com:443", ["a.example.com"]),
        ("https://a.example.com/", ["a.example.com"]),
        ("b.example.com", ["b.example.com:8443"]),
        ("b.example.com:8443", ["b.example.com:8443"]),
        ("icr.io", ["a.example.com", "b.example.com:8443"]),
        ("docker.io", ["registry-1.docker.io"]),
    ],
)
def test_a_host_and_a_registry_mean_their_endpoints(loaded: Loaded, what: str, expected: list[str]) -> None:
    assert hosts(loaded, what) == expected
    assert all(subject.pulled is None for subject in choose(loaded, what))


@pytest.mark.parametrize("what", ["other.example.com", "https://other.example.com", "localhost:5000", "quay.io"])
def test_no_host_outside_the_configuration_gets_a_request(loaded: Loaded, what: str) -> None:
    with pytest.raises(HostUnknown, match=r"its endpoints: a\.example\.com, b\.example\.com:8443"):
        choose(loaded, what)


def test_an_image_means_the_endpoints_of_its_route_and_its_repository_there(loaded: Loaded) -> None:
    subjects = choose(loaded, "icr.io/cpopen/app:1.2")
    assert [subject.repository for subject in subjects] == ["local/app", "team/local/app"]
    manifests = [str(subject.pulled.manifest) for subject in subjects if subject.pulled is not None]
    assert manifests == [
        "https://a.example.com/v2/local/app/manifests/1.2",
        "https://b.example.com:8443/v2/team/local/app/manifests/1.2",
    ]


@pytest.mark.parametrize("what", ["alpine", "alpine:3.20"])
def test_a_name_without_a_dot_is_an_image_of_docker_hub(loaded: Loaded, what: str) -> None:
    assert [subject.repository for subject in choose(loaded, what)] == ["library/alpine"]


def test_a_namespace_is_sent_on_where_the_endpoint_wants_it() -> None:
    text = "version: 1\nregistries: {icr.io: {endpoints: [{url: 'https://m.example', forwardNamespace: true}]}}\n"
    (subject,) = choose(parse_config(text, "c.yaml"), "icr.io/a:1")
    assert subject.pulled is not None
    assert str(subject.pulled.manifest) == "https://m.example/v2/a/manifests/1?ns=icr.io"


def test_an_image_that_cannot_be_pulled_is_an_error(loaded: Loaded) -> None:
    with pytest.raises(NameInvalid):
        choose(loaded, "icr.io/UPPER:1")
    without_any = parse_config("version: 1\nregistries: {icr.io: {}}\n", "c.yaml")
    with pytest.raises(RegistryUnknown):
        choose(without_any, "quay.io/a/b:1")
