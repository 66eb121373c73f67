import ssl
from typing import Any

import pytest
import trustme

from proxy.server.clients.known_clients import is_allowed, subject_name


def certificate(*common: object, alternative: tuple[tuple[str, object], ...] = ()) -> dict[str, Any]:
    names = tuple((("commonName", name),) for name in common)
    return {"subject": ((("organizationName", "Example"),), *names), "subjectAltName": alternative, "version": 3}


NODE = certificate(
    "node-1",
    alternative=(
        ("DNS", "Node-1.Example.com"),
        ("URI", "spiffe://example.com/ns/a/sa/B"),
        ("email", "Node@example.com"),
        ("IP Address", "10.0.0.1"),
        ("DirName", ((("commonName", "other"),),)),
        ("othername", "<unsupported>"),
    ),
)


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        ((), True),
        (("node-1",), True),
        (("*",), True),
        (("node-*",), True),
        (("nobody", "node-1"), True),
        (("node-",), False),
        (("ode-1",), False),
        (("NODE-1",), False),
        (("node.1",), False),
        (("node-[0-9]",), False),
        (("node-?",), False),
        ((".*",), False),
        (("",), False),
        (("DNS:node-1.example.com",), True),
        (("DNS:NODE-1.EXAMPLE.COM",), True),
        (("DNS:*.example.com",), True),
        (("DNS:*.Example.com",), True),
        (("DNS:*.evil.com",), False),
        (("DNS:node-1",), False),
        (("dns:node-1.example.com",), False),
        (("node-1.example.com",), False),
        (("URI:spiffe://example.com/*",), True),
        (("URI:spiffe://example.com/ns/a/sa/B",), True),
        (("URI:spiffe://example.com/ns/a/sa/b",), False),
        (("email:Node@example.com",), True),
        (("email:node@example.com",), False),
        (("email:*",), True),
        (("IP Address:10.0.0.1",), False),
        (("other",), False),
        (("DNS:",), False),
    ],
)
def test_a_certificate_is_let_in_by_its_names_only(patterns: tuple[str, ...], *, allowed: bool) -> None:
    assert is_allowed(NODE, patterns) is allowed


@pytest.mark.parametrize("missing", [None, {}])
def test_without_a_verified_certificate_nobody_is_let_in(missing: dict[str, Any] | None) -> None:
    assert not is_allowed(missing, ())
    assert not is_allowed(missing, ("*", "DNS:*"))
    assert subject_name(missing) is None


def test_the_name_is_the_common_name_else_the_first_alternative_one() -> None:
    assert subject_name(NODE) == "node-1"
    assert subject_name(certificate(alternative=(("IP Address", "10.0.0.1"), ("DNS", "A.example")))) == "DNS:a.example"
    assert subject_name(certificate(alternative=(("URI", "spiffe://A"), ("DNS", "b")))) == "URI:spiffe://A"
    assert subject_name(certificate()) is None
    assert subject_name({"version": 3}) is None


ODD = ["node-1\0.evil", "\0", "node-1\n", "nöde", "node\u202e1", "node\x7f", "", " node-1", "node-1 ", "x" * 256, 1]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_is_not_plain_is_no_name(name: object) -> None:
    odd = certificate(name, alternative=(("DNS", name), ("URI", name), ("email", name)))
    assert subject_name(odd) is None
    assert not is_allowed(odd, ("*", "DNS:*", "URI:*", "email:*", "node-1"))


@pytest.mark.parametrize("name", ["DNS:admin.example", "URI:spiffe://admin", "email:admin@example.com", "anonymous"])
def test_a_common_name_that_poses_as_another_kind_of_name_is_no_name(name: str) -> None:
    posing = certificate(name)
    assert subject_name(posing) is None
    assert not is_allowed(posing, (name, "*"))


def test_a_colon_alone_is_allowed_in_a_common_name() -> None:
    node = certificate("system:node:worker-1")
    assert subject_name(node) == "system:node:worker-1"
    assert is_allowed(node, ("system:node:*",))


def test_of_several_common_names_none_counts() -> None:
    both = certificate("node-1", "admin", alternative=(("DNS", "node-1.example"),))
    assert subject_name(both) == "DNS:node-1.example"
    assert not is_allowed(both, ("node-1", "admin", "*"))
    assert is_allowed(both, ("DNS:node-1.example",))


def test_what_python_gives_of_a_real_certificate_is_understood() -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.issue_cert("Node-1.example", "node@example.com", common_name="node-1").configure_cert(client)
    authority.configure_trust(server)
    authority.configure_trust(client)
    server.verify_mode = ssl.CERT_REQUIRED
    peercert = shake_hands(server, client)
    assert subject_name(peercert) == "node-1"
    assert is_allowed(peercert, ("DNS:node-1.*",))
    assert is_allowed(peercert, ("email:node@example.com",))
    assert not is_allowed(peercert, ("localhost",))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any] | None:
    """What the server's side sees of the client's certificate, without a network."""
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(one, two, server_hostname="localhost")
    far = server.wrap_bio(two, one, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return far.getpeercert()
