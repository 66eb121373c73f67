import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import NameInvalid, RegistryUnknown
from proxy.oci.reference import Digest
from proxy.oci.scope import Scope
from proxy.routing.table import MAX_CACHED, MAX_CACHED_LENGTH, Target
from tests.unit.routing.support import only_target, table

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("endpoint", "url", "repository"),
    [
        ("https://h.example", "https://h.example/v2/p/a", "p/a"),
        ("https://h.example/", "https://h.example/v2/p/a", "p/a"),
        ("https://h.example/v2", "https://h.example/v2/p/a", "p/a"),
        ("https://h.example/v2/project", "https://h.example/v2/project/p/a", "project/p/a"),
        ("https://h.example/v2/x/y/", "https://h.example/v2/x/y/p/a", "x/y/p/a"),
        ("https://h.example/api/docker/repo/v2", "https://h.example/api/docker/repo/v2/p/a", "p/a"),
        ("https://h.example/api/v2/project", "https://h.example/api/v2/project/p/a", "project/p/a"),
        ("https://h.example/root", "https://h.example/root/p/a", "p/a"),
        ("http://127.0.0.1:5500", "http://127.0.0.1:5500/v2/p/a", "p/a"),
    ],
)
def test_the_scope_names_what_the_upstream_sees(endpoint: str, url: str, repository: str) -> None:
    routes = table(f"r.example: {{endpoints: ['{endpoint}'], rewrites: [{{pattern: ^a$, replacement: p/a}}]}}")
    target = only_target(routes, "a", "r.example")
    assert (target.path, target.repository) == ("p/a", repository)
    assert target.url("manifests/1") == f"{url}/manifests/1"


@pytest.mark.parametrize(
    ("registry", "origin"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("r.example", "https://r.example"),
        ("r.example:8443", "https://r.example:8443"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_no_endpoint_means_the_registry_itself(registry: str, origin: str) -> None:
    target = only_target(table(f'"{registry}": {{}}'), "a/b", registry)
    assert target.url("tags/list") == f"{origin}/v2/a/b/tags/list"
    assert (target.scope, target.namespace, target.place) == ("computed", None, "c.yaml:3:3")


def test_endpoints_keep_their_order_and_what_is_special_about_them() -> None:
    routes = table("""
        r.example:
          endpoints:
            - https://one.example
            - url: https://two.example/v2/cache
              scope: challenge
              forwardNamespace: true
              rewrites: [{pattern: '^a/', replacement: 'own/'}]
            - {url: https://three.example, rewrites: []}
          rewrites:
            - {pattern: '^nothing', replacement: x}
            - {pattern: '^a/', replacement: 'shared/'}
    """)
    first, second, third = routes.resolve("a/b", namespace="r.example").targets
    assert [first.repository, second.repository, third.repository] == ["shared/b", "cache/own/b", "a/b"]
    assert [first.scope, second.scope] == ["computed", "challenge"]
    assert [first.namespace, second.namespace, third.namespace] == [None, "r.example", None]
    assert [first.place, second.place, third.place] == ["c.yaml:5:9", "c.yaml:6:9", "c.yaml:10:9"]
    assert first.rewriting.note == "rewritten by ^a/ -> shared/ (c.yaml:13:9)"
    assert second.rewriting.note == "rewritten by ^a/ -> own/ (c.yaml:9:20)"
    assert third.rewriting.note == "no rules"


def test_docker_hubs_official_images_are_rewritten_under_their_full_name() -> None:
    routes = table("docker.io: {endpoints: [https://m.example], rewrites: [{pattern: '(.*)', replacement: 'hub/$1'}]}")
    assert only_target(routes, "alpine", "docker.io").repository == "hub/library/alpine"


def test_node_rewrites_pass() -> None:
    routes = table("""
        docker.io:
          endpoints: [https://m.example]
          nodeRewrites: true
          rewrites: [{pattern: '(.*)', replacement: 'hmirror/$1'}]
    """)
    for name in ("rancher/k3s", "hmirror/rancher/k3s"):
        assert only_target(routes, name, "docker.io").repository == "hmirror/rancher/k3s"


NAMES = st.from_regex(r"[ab]{1,2}(/[ab]{1,2}){0,2}", fullmatch=True)
REFERENCES = st.sampled_from([DIGEST, Digest.of(b"y"), "a", "b"])
ROUTES = table("""
    one.example: {endpoints: [https://m.example/v2/a]}
    two.example: {endpoints: [https://m.example]}
    three.example: {endpoints: [https://m.example/v2/a/b]}
""")


@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), NAMES, REFERENCES), min_size=2, max_size=2))
def test_two_urls_are_the_same_only_for_the_same_upstream_repository_and_reference(
    requests: list[tuple[str, str, object]],
) -> None:
    def key(target: Target, reference: object) -> tuple[object, ...]:
        return target.endpoint.origin, target.repository, reference

    (first, one), (second, two) = (
        (only_target(ROUTES, name, f"{registry}.example"), reference) for registry, name, reference in requests
    )
    same_url = first.url(f"manifests/{one}") == second.url(f"manifests/{two}")
    assert same_url == (key(first, one) == key(second, two))


@given(
    st.lists(st.tuples(st.sampled_from(["^a", "(.*)", "b$"]), st.sampled_from(["x/$0", "${0}-z", "y"])), max_size=3),
    NAMES,
)
def test_the_scope_is_that_of_the_repository_in_the_url(rules: list[tuple[str, str]], name: str) -> None:
    rewrites = ", ".join(f"{{pattern: '{pattern}', replacement: '{text}'}}" for pattern, text in rules)
    routes = table(f"r.example: {{endpoints: [https://m.example/v2/p], rewrites: [{rewrites}]}}")
    target = only_target(routes, name, "r.example")
    inside = target.url("manifests/1").removeprefix("https://m.example/v2/").removesuffix("/manifests/1")
    assert str(Scope.pull(target.repository)) == f"repository:{inside}:pull"


def test_what_was_resolved_is_resolved_alike_again() -> None:
    routes = table("r.example: {}\nother.example: {}", "defaultRegistry: other.example")
    requests = [
        ("a/b", "r.example", None),
        ("a/b", None, None),
        ("a/b", None, "r.example"),
        ("r.example/a/b", None, None),
    ]
    first = [routes.resolve(name, namespace=namespace, host=host) for name, namespace, host in requests]
    again = [routes.resolve(name, namespace=namespace, host=host) for name, namespace, host in requests]
    assert first == again
    assert [route.registry for route in again] == ["r.example", "other.example", "r.example", "r.example"]


def test_names_without_end_are_resolved_and_not_all_remembered() -> None:
    routes = table("r.example: {}")
    names = [f"a/{number}" for number in range(MAX_CACHED + 2)]
    for _ in range(2):
        assert [routes.resolve(name, namespace="r.example").repository for name in names] == names


@pytest.mark.parametrize(("length", "is_kept"), [(MAX_CACHED_LENGTH, True), (MAX_CACHED_LENGTH + 1, False)])
@pytest.mark.parametrize("name", ["a/b", "a/" + "b" * 200])
def test_only_what_is_not_long_is_kept(name: str, length: int, is_kept: bool) -> None:
    routes, registry = table("r.example: {}"), "r.example"
    host = "h" * (length - len(name) - len(registry))
    first, again = (routes.resolve(name, namespace=registry, host=host) for _ in range(2))
    assert first == again
    assert (first.repository, first is again) == (name, is_kept)


def test_what_is_refused_is_refused_again() -> None:
    routes = table("r.example: {}")
    for _ in range(2):
        with pytest.raises(RegistryUnknown):
            routes.resolve("a", namespace="unknown.example")
        with pytest.raises(NameInvalid):
            routes.resolve("A", namespace="r.example")
