import tomllib
from typing import Any

import pytest

from proxy.config.load import parse_config
from proxy.config.reading.yaml_values import read_document
from proxy.nodes.node_config import Mark, NodeHosts, checked_instance, node_settings, plan, render_node

NODE, CENTRAL = "http://127.0.0.1:5000", "https://proxy.example.com:5443"
REWRITES = "rewrites: [{pattern: '^a/(.+)$', replacement: 'b/$1'}]"


def planned(registries: str, *proxies: str, more: str = "", image: str | None = None) -> dict[str, NodeHosts]:
    config = parse_config(f"version: 1\nregistries:\n{registries}{more}", "config.yaml").config
    return {hosts.registry: hosts for hosts in plan(config, proxies or (NODE,), image)}


def file(hosts: NodeHosts, *, with_ca: bool = False) -> dict[str, Any]:
    return tomllib.loads(hosts.render(Mark("default"), with_ca=with_ca))


def test_the_registry_itself_is_the_last_resort() -> None:
    assert file(planned("  docker.io: {}\n")["docker.io"]) == {
        "server": "https://registry-1.docker.io",
        "host": {NODE: {"capabilities": ["pull", "resolve"]}},
    }


@pytest.mark.parametrize(
    ("entry", "more"),
    [
        (f"{{endpoints: ['https://m.example'], {REWRITES}}}", ""),
        (f"{{endpoints: ['https://m.example', {{url: 'https://n.example', {REWRITES}}}]}}", ""),
        ("{}", "access: [{action: allow, registries: docker.io}]\n"),
    ],
    ids=["rewrites", "endpoint-rewrites", "access"],
)
def test_only_the_proxy_is_listed_where_names_differ_or_rules_decide(entry: str, more: str) -> None:
    hosts = planned(f"  docker.io: {entry}\n", more=more)["docker.io"]
    assert file(hosts) == {"server": NODE, "capabilities": ["pull", "resolve"], "host": {}}
    assert "\n[host]\n" in hosts.render(Mark("default"))  # containerd 1.6 needs the table


def test_two_proxies_are_listed_once_each_in_their_order() -> None:
    found = planned(
        f"  a.example: {{}}\n  b.example: {{endpoints: ['https://m.example'], {REWRITES}}}\n", NODE, CENTRAL
    )
    public, rewritten = file(found["a.example"], with_ca=True), file(found["b.example"], with_ca=True)
    central = {"capabilities": ["pull", "resolve"], "ca": "scope-proxy-ca.crt", "dial_timeout": "3s"}
    assert list(public["host"]) == [NODE, CENTRAL]
    assert public["host"][CENTRAL] == central
    assert public["server"] == "https://a.example"
    assert rewritten == {"server": CENTRAL, **central, "host": {NODE: {"capabilities": ["pull", "resolve"]}}}


@pytest.mark.parametrize(
    ("registry", "directory"),
    [
        ('"*"', "_default"),
        ("quay.io", "quay.io"),
        ('"registry.example.com:5000"', "registry.example.com_5000_"),
        ('"[2001:db8::1]:5000"', "[2001:db8::1]_5000_"),
        ('"[2001:db8::1]"', "[2001:db8::1]"),
    ],
)
def test_directories_are_named_as_containerd_looks_for_them(registry: str, directory: str) -> None:
    found = planned(f"  {registry}: {{endpoints: ['https://m.example']}}\n")
    assert [hosts.directory for hosts in found.values()] == [directory]


def test_the_fallback_is_the_registry_as_it_is_configured() -> None:
    found = planned(
        "  'registry.example.com:5000': {endpoints: ['https://m.example', 'http://registry.example.com:5000']}\n"
        "  '*': {endpoints: ['https://m.example']}\n"
        "  'localhost:5001': {}\n"
    )
    assert {name: hosts.fallback for name, hosts in found.items()} == {
        "registry.example.com:5000": "http://registry.example.com:5000",
        "*": "",
        "localhost:5001": "http://localhost:5001",
    }


def test_the_registry_of_our_own_image_is_never_without_a_fallback() -> None:
    rewritten = f"{{endpoints: ['https://m.example'], {REWRITES}}}"
    assert planned("  ghcr.io: {}\n", image="ghcr.io")["ghcr.io"].fallback == "https://ghcr.io"
    assert planned(f"  ghcr.io: {rewritten}\n", image="ghcr.io") == {}
    spared = planned(f"  ghcr.io: {rewritten}\n  '*': {rewritten}\n", image="ghcr.io")
    assert file(spared["ghcr.io"]) == {"server": "https://ghcr.io", "host": {}}
    assert list(planned("  '*': {endpoints: ['https://m.example']}\n", image="ghcr.io")) == ["*"]
    assert list(planned(f"  '*': {rewritten}\n", image="")) == ["*"]


@pytest.mark.parametrize("mark", [Mark("default"), Mark("kube-system/proxy", made_directory=True, version="1.2.3")])
def test_a_mark_is_read_back(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark
    assert all(line.startswith("#") for line in str(mark).splitlines())


@pytest.mark.parametrize("text", ["", 'server = "x"\n', "# managed by somebody 1.0, instance default\n"])
def test_other_files_have_no_mark(text: str) -> None:
    assert Mark.parse(text) is None


@pytest.mark.parametrize("instance", ["", "a b", "a\nb", "/a", "a" * 200])
def test_an_instance_is_a_plain_name(instance: str) -> None:
    assert checked_instance("default/scope-proxy") == "default/scope-proxy"
    with pytest.raises(ValueError, match="such as namespace/release"):
        checked_instance(instance)


def test_a_registries_yaml_says_the_same_as_text() -> None:
    names = ["docker.io", "*", "no", "127.0.0.1:5000", "[::1]:5000"]
    for registries, proxies, ca in ((names, [NODE, CENTRAL], "/etc/ca.pem"), (names, [NODE], "/a"), ([], [NODE], None)):
        value = read_document(render_node(registries, proxies, ca), "", version="1.1").value
        assert value == node_settings(registries, proxies, ca)
    assert "configs" not in node_settings(names, [NODE], "/etc/ca.pem")
