"""Which registry a request means, in the order of ns=, Host, first part of the path, defaultRegistry."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import Denied, NameInvalid, RegistryUnknown
from proxy.routing.table import RouteTable
from tests.unit.routing.support import table

REGISTRIES = """
    docker.io: {}
    icr.io: {endpoints: [https://mirror.example]}
    reg.example:5000: {endpoints: [https://five.example]}
"""
DEFAULT = "defaultRegistry: icr.io"
ANY = REGISTRIES + '    "*": {endpoints: [{url: https://all.example, forwardNamespace: true}]}'


@pytest.fixture(scope="module")
def routes() -> RouteTable:
    return table(REGISTRIES, DEFAULT)


@pytest.fixture(scope="module")
def strict() -> RouteTable:
    return table(REGISTRIES)


@pytest.fixture(scope="module")
def catch_all() -> RouteTable:
    return table(ANY)


@pytest.mark.parametrize(
    ("name", "namespace", "host", "registry", "repository", "why"),
    [
        ("a/b", "docker.io", None, "docker.io", "a/b", "ns="),
        ("alpine", "docker.io", None, "docker.io", "library/alpine", "ns="),
        ("docker.io/alpine", "docker.io", None, "docker.io", "library/alpine", "removed from the path"),
        ("icr.io/a", "docker.io", "icr.io", "docker.io", "icr.io/a", "ns="),
        ("icr.io/a", "icr.io", None, "icr.io", "a", "removed from the path"),
        ("icr.io/icr.io/a", "icr.io", None, "icr.io", "icr.io/a", "removed from the path"),
        ("docker.io/a", None, "icr.io", "icr.io", "docker.io/a", "Host"),
        ("a", None, "ICR.io", "icr.io", "a", "Host"),
        ("a", None, "reg.example:5000", "reg.example:5000", "a", "Host"),
        ("docker.io/alpine", None, "proxy.internal:5000", "docker.io", "library/alpine", "first part of the path"),
        ("docker.io/a/b", None, None, "docker.io", "a/b", "first part of the path"),
        ("a/b", None, "proxy.internal:5000", "icr.io", "a/b", "defaultRegistry"),
        ("docker.io", None, None, "icr.io", "docker.io", "defaultRegistry"),
    ],
)
def test_the_registry_is_named_in_this_order(
    routes: RouteTable, name: str, namespace: str | None, host: str | None, registry: str, repository: str, why: str
) -> None:
    route = routes.resolve(name, namespace=namespace, host=host)
    assert (route.registry, route.upstream, route.repository) == (registry, registry, repository)
    assert why in route.trace[0]
    assert route.trace[1] == f"configured as registries.{registry}"


@pytest.mark.parametrize(
    "namespace",
    [
        "",
        "evil.example",
        "icr.io:",
        "icr.io:0443",
        "icr.io.",
        "icr.io:443",
        " icr.io",
        "icr.io/",
        "icr.io\x00",
        "x@icr.io",
        "169.254.169.254",
        "https://icr.io",
        "*",
        "reg.example",
    ],
)
def test_an_ns_that_is_not_configured_is_refused_whatever_else_fits(routes: RouteTable, namespace: str) -> None:
    with pytest.raises(RegistryUnknown) as caught:
        routes.resolve("icr.io/a", namespace=namespace, host="icr.io")
    assert caught.value.status == 403
    assert "hint" in caught.value.detail


@pytest.mark.parametrize("name", ["a", "a/b", "*/a"])
def test_without_a_default_a_bare_name_is_refused(strict: RouteTable, name: str) -> None:
    with pytest.raises(RegistryUnknown) as caught:
        strict.resolve(name, host="proxy.internal")
    assert name in str(caught.value)
    assert "defaultRegistry" in str(caught.value)


@pytest.mark.parametrize("registry", ["mirror.example", "gcr.io", "localhost", "gcr.io:8443"])
def test_a_registry_in_the_path_that_is_not_configured_is_named(strict: RouteTable, registry: str) -> None:
    with pytest.raises(RegistryUnknown) as caught:
        strict.resolve(f"{registry}/a", host="proxy.internal")
    assert f"{registry} is not configured: add it under registries" in str(caught.value)
    assert caught.value.status == 403
    assert "hint" in caught.value.detail


def test_a_configured_registry_in_upper_case_in_the_path_is_suggested(strict: RouteTable) -> None:
    with pytest.raises(RegistryUnknown, match=r"write icr\.io"):
        strict.resolve("ICR.IO/a", host="proxy.internal")


@pytest.mark.parametrize("name", ["", "A", "a//b", "../a", "a/../b", "a b", "docker.io//a", "docker.io/"])
def test_a_bad_repository_is_name_invalid(routes: RouteTable, name: str) -> None:
    with pytest.raises(NameInvalid):
        routes.resolve(name, namespace="icr.io")


@pytest.mark.parametrize("namespace", ["other.example", "other.example:8443", "localhost:5000", "[2001:db8::1]:5000"])
def test_any_other_registry_falls_under_the_star(catch_all: RouteTable, namespace: str) -> None:
    route = catch_all.resolve("a/b", namespace=namespace)
    (target,) = route.targets
    assert (route.registry, route.upstream) == (namespace, "*")
    assert (target.url("tags/list"), target.namespace) == ("https://all.example/v2/a/b/tags/list", namespace)


def test_an_entry_of_its_own_goes_before_the_star(catch_all: RouteTable) -> None:
    assert catch_all.resolve("a", namespace="icr.io").upstream == "icr.io"


@pytest.mark.parametrize(
    "namespace",
    [
        "",
        "*",
        "a.example:",
        "a:00443",
        "a:65536",
        "[::g]",
        "a/b",
        "https://a",
        "a b",
        "x@y",
        "a?b",
        "a#b",
        "a\r\nb",
        "a:0",
        "-a",
        "a.",
    ],
)
def test_what_is_no_registry_does_not_fall_under_the_star(catch_all: RouteTable, namespace: str) -> None:
    with pytest.raises(RegistryUnknown):
        catch_all.resolve("a", namespace=namespace)


@pytest.mark.parametrize(("name", "host"), [("other.example/a", None), ("a", "other.example"), ("*/a", "*")])
def test_only_ns_reaches_the_star(catch_all: RouteTable, name: str, host: str | None) -> None:
    with pytest.raises(RegistryUnknown):
        catch_all.resolve(name, host=host)


NAMESPACES = (
    st.text(max_size=30) | st.from_regex(r"[a-z0-9.\[\]:@/?#-]{1,30}", fullmatch=True) | st.ip_addresses().map(str)
)


@given(name=st.text("abA/.-", max_size=20), namespace=st.none() | NAMESPACES, host=st.none() | NAMESPACES)
def test_no_request_leads_to_a_host_that_is_not_configured(
    catch_all: RouteTable, name: str, namespace: str | None, host: str | None
) -> None:
    configured = {"registry-1.docker.io", "mirror.example", "five.example", "all.example"}
    with contextlib.suppress(RegistryUnknown, NameInvalid, Denied):
        route = catch_all.resolve(name, namespace=namespace, host=host)
        assert {target.endpoint.origin.host for target in route.targets} <= configured
        assert all(target.url("x").startswith(f"{target.endpoint.origin}/v2/") for target in route.targets)
