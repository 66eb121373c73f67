"""Names that could lead around a rule that denies a repository: all of them are denied, and nothing else is."""

import pytest

from proxy.oci.errors import RegistryError
from proxy.routing.access import AccessRules
from proxy.routing.table import Route, RouteTable
from tests.unit.routing.support import loaded

pytestmark = pytest.mark.security

REGISTRIES = """
    icr.io:
      endpoints: [https://art.example]
      rewrites: [{pattern: '^cpopen/(.+)$', replacement: 'local/$1'}]
    cp.icr.io:
      endpoints:
        - url: https://art.example/v2
          rewrites: [{pattern: '^cp/(?P<app>[^/]+)/(.+)$', replacement: '$app/$2'}]
    old.example:
      endpoints: ['http://ART.example']
    ported.example:
      endpoints: ['https://art.example:443/v2/local']
    docker.io:
      endpoints: [https://swr.example]
      rewrites: [{pattern: '(.*)', replacement: 'hmirror/$1'}]
      nodeRewrites: true
    swr.example: {}
    prefix.example:
      endpoints: [https://art.example/v2/remote]
    other.example:
      endpoints: [https://other.example, https://art.example]
    path.example:
      endpoints: [https://art.example/api/local/v2]
    elsewhere.example:
      endpoints: [https://elsewhere.example]
    hub.example:
      endpoints: [https://index.docker.io]
    lossy.example:
      endpoints: [https://lossy.example]
      rewrites: [{pattern: '^x?(.*)$', replacement: 'q/$1'}]
    mirror.example:
      endpoints: [{url: 'https://mirror.example', forwardNamespace: true}]
    "*":
      endpoints: [https://any.example]
"""
ALLOW = "{action: allow}"


def access(*rules: str) -> tuple[RouteTable, AccessRules]:
    source = loaded(REGISTRIES, "access:\n" + "".join(f"  - {rule}\n" for rule in rules))
    return RouteTable(source.config, source.positions), AccessRules(source.config, source.positions)


def may_pull(rules: tuple[str, ...], name: str, namespace: str | None, host: str | None = None) -> bool:
    """Whether somebody gets at a name; a name that is refused as such is not got at."""
    table, judge = access(*rules)
    try:
        route: Route = table.resolve(name, namespace=namespace, host=host)
    except RegistryError:
        return False
    return judge.check(route, "mallory").allowed


SECRET = "{action: deny, registries: icr.io, repositories: cpopen/secret/**}"


@pytest.mark.parametrize(
    ("name", "namespace", "host"),
    [
        ("cpopen/secret/x", "icr.io", None),
        ("cpopen/secret", "icr.io", None),
        ("cpopen/secret/x/y/z", "icr.io", None),
        # the rewritten name, requested directly
        ("local/secret/x", "icr.io", None),
        ("local/secret", "icr.io", None),
        # the registry in the path, in the Host header, and both
        ("icr.io/cpopen/secret/x", "icr.io", None),
        ("icr.io/cpopen/secret/x", None, None),
        ("icr.io/local/secret/x", None, "127.0.0.1:5000"),
        ("cpopen/secret/x", None, "icr.io"),
        ("cpopen/secret/x", None, "ICR.IO"),
        # another case, and other ways to write the same path
        ("CPOPEN/secret/x", "icr.io", None),
        ("cpopen/Secret/x", "icr.io", None),
        ("cpopen//secret/x", "icr.io", None),
        ("cpopen/./secret/x", "icr.io", None),
        ("cpopen/a/../secret/x", "icr.io", None),
        ("/cpopen/secret/x", "icr.io", None),
        ("cpopen/secret/x/", "icr.io", None),
        ("cpopen/secret%2fx", "icr.io", None),
        ("cpopen/secret/x", "ICR.io", None),
        # another registry whose endpoint and rules lead to the same repository
        ("cp/local/secret/x", "cp.icr.io", None),
        ("local/secret/x", "cp.icr.io", None),
        ("cp.icr.io/cp/local/secret/x", None, None),
        ("local/secret/x", "old.example", None),
        ("secret/x", "ported.example", None),
        ("local/secret/x", "other.example", None),
    ],
)
def test_no_name_leads_to_a_repository_that_is_denied(name: str, namespace: str | None, host: str | None) -> None:
    assert not may_pull((SECRET, ALLOW), name, namespace, host)


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("cpopen/public", "icr.io"),
        ("cpopen/secrets/x", "icr.io"),
        ("local/public", "icr.io"),
        ("a/cpopen/secret/x", "icr.io"),
        ("cp/local/public", "cp.icr.io"),
        ("cpopen/secret/x", "elsewhere.example"),
        ("local/secret/x", "elsewhere.example"),
        ("cpopen/secret/x", "any.registry"),
        ("secret/x", "path.example"),
        ("local/secret/x", "prefix.example"),
    ],
)
def test_other_repositories_are_not_denied_with_it(name: str, namespace: str) -> None:
    assert may_pull((SECRET, ALLOW), name, namespace)


@pytest.mark.parametrize(
    ("rule", "name", "namespace"),
    [
        # a rule that is written with the name upstream
        ("{action: deny, repositories: local/secret/**}", "cpopen/secret/x", "icr.io"),
        ("{action: deny, repositories: local/secret/**}", "cp/local/secret/x", "cp.icr.io"),
        ("{action: deny, repositories: LOCAL/secret/**}", "cpopen/secret/x", "icr.io"),
        ("{action: deny, registries: icr.io, repositories: local/secret/**}", "cp/local/secret/x", "cp.icr.io"),
        ("{action: deny, repositories: local/secret/**}", "secret/x", "ported.example"),
        ("{action: deny, registries: ported.example, repositories: local/secret/**}", "cpopen/secret/x", "icr.io"),
        ("{action: deny, registries: ported.example, repositories: secret/**}", "cpopen/secret/x", "icr.io"),
        # a rule that cannot be read backwards
        ("{action: deny, registries: lossy.example, repositories: q/secret}", "xsecret", "lossy.example"),
        ("{action: deny, repositories: q/secret}", "secret", "lossy.example"),
        # a node that still rewrites
        ("{action: deny, registries: docker.io, repositories: team/x}", "hmirror/team/x", "docker.io"),
        ("{action: deny, registries: docker.io, repositories: team/x}", "hmirror/team/x", "swr.example"),
        ("{action: deny, registries: docker.io, repositories: hmirror/team/x}", "team/x", "docker.io"),
        # official images of Docker Hub, in short and in full
        ("{action: deny, registries: docker.io, repositories: nginx}", "nginx", "docker.io"),
        ("{action: deny, registries: docker.io, repositories: nginx}", "library/nginx", "docker.io"),
        ("{action: deny, registries: docker.io, repositories: nginx}", "docker.io/nginx", "docker.io"),
        ("{action: deny, registries: docker.io, repositories: nginx}", "hmirror/library/nginx", "docker.io"),
        ("{action: deny, registries: docker.io, repositories: nginx}", "hmirror/library/nginx", "swr.example"),
        ("{action: deny, registries: docker.io, repositories: library/nginx}", "nginx", "docker.io"),
        ("{action: deny, registries: hub.example, repositories: library/nginx}", "nginx", "hub.example"),
        ("{action: deny, registries: hub.example, repositories: library/nginx}", "library/nginx", "hub.example"),
        # registries under "*", which share an endpoint
        ("{action: deny, registries: a.example, repositories: x/y}", "x/y", "a.example"),
        ("{action: deny, registries: a.example, repositories: x/y}", "x/y", "b.example"),
        ("{action: deny, registries: 'a.*', repositories: x/y}", "x/y", "b.example"),
        ("{action: deny, registries: a.example}", "x/y", "a.example"),
        ("{action: deny, registries: a.example}", "x/y", "a.example:443"),
        ("{action: deny, registries: index.docker.io}", "library/nginx", "index.docker.io"),
        ("{action: deny, registries: A.example}", "x/y", "a.example"),
        # a registry with another port or name is still the one that a rule denies
        ("{action: deny, registries: docker.io}", "library/nginx", "index.docker.io"),
        ("{action: deny, registries: docker.io}", "library/nginx", "registry-1.docker.io:443"),
        ("{action: deny, registries: icr.io}", "cpopen/x", "icr.io:443"),
        # an upstream that gets the registry's name: only that registry is meant
        ("{action: deny, registries: mirror.example, repositories: x/y}", "x/y", "mirror.example"),
    ],
)
def test_the_same_holds_for_every_way_to_write_the_rule(rule: str, name: str, namespace: str) -> None:
    assert not may_pull((rule, ALLOW), name, namespace)
    assert may_pull((ALLOW,), name, namespace)


@pytest.mark.parametrize("name", ["remote/nginx", "remote/library/nginx", "art.example/remote/nginx"])
@pytest.mark.parametrize("repository", ["nginx", "library/nginx", "library/*", "remote/library/nginx"])
def test_a_mirror_of_docker_hub_is_no_way_round(name: str, repository: str) -> None:
    registries = "docker.io: {endpoints: [https://art.example/v2/remote]}\nart.example: {}"
    rules = f"access: [{{action: deny, registries: docker.io, repositories: '{repository}'}}, {ALLOW}]"
    source = loaded(registries, rules)
    route = RouteTable(source.config, source.positions).resolve(name, namespace="art.example")
    assert not AccessRules(source.config, source.positions).check(route, "mallory").allowed


@pytest.mark.parametrize(
    ("rule", "name", "namespace"),
    [
        # a rule without repositories denies the registry's name, and not what others have from the same server
        ("{action: deny, registries: icr.io}", "cp/local/x", "cp.icr.io"),
        ("{action: deny, registries: a.example}", "x/y", "b.example"),
        ("{action: deny, registries: docker.io, repositories: nginx}", "nginx", "a.example"),
        ("{action: deny, registries: mirror.example, repositories: x/y}", "x/y", "a.example"),
        ("{action: deny, repositories: x/y, clients: bob}", "x/y", "a.example"),
    ],
)
def test_a_rule_denies_no_more_than_it_says(rule: str, name: str, namespace: str) -> None:
    assert may_pull((rule, ALLOW), name, namespace)


@pytest.mark.parametrize(
    ("rule", "name", "namespace"),
    [
        ("{action: allow, registries: icr.io, repositories: cpopen/**}", "local/x", "icr.io"),
        ("{action: allow, registries: icr.io, repositories: cpopen/**}", "cpopen/x", "cp.icr.io"),
        ("{action: allow, registries: icr.io, repositories: cpopen/**}", "cpopen/x", "icr.io:443"),
        ("{action: allow, registries: icr.io, repositories: cpopen/**}", "cpopen", "xicr.io"),
        ("{action: allow, registries: 'icr.io'}", "x", "icrxio"),
        ("{action: allow, registries: '*.icr.io'}", "x", "icr.io"),
        ("{action: allow, repositories: cpopen/*}", "cpopen/a/b", "icr.io"),
        ("{action: allow, repositories: 'team.a/**'}", "team-a/x", "icr.io"),
        ("{action: allow, clients: alice}", "x", "icr.io"),
        ("{action: allow, clients: 'mallor'}", "x", "icr.io"),
        ("{action: allow, clients: 'm.*y'}", "x", "icr.io"),
    ],
)
def test_a_rule_that_allows_is_for_the_name_that_it_says_only(rule: str, name: str, namespace: str) -> None:
    assert not may_pull((rule,), name, namespace)
