import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.outward.realm import BUILT_IN_REALMS, RealmRefused, judge_realm
from proxy.config.address import Origin
from proxy.oci.errors import Denied

pytestmark = pytest.mark.security

UPSTREAM = Origin.parse("https://registry.example")
LISTED = Origin.parse("https://auth.listed.example:8443")


@pytest.mark.parametrize(
    ("realm", "url"),
    [
        ("https://registry.example/token", "https://registry.example/token"),
        ("https://registry.example:443/token", "https://registry.example/token"),
        ("HTTPS://REGISTRY.EXAMPLE/token", "https://REGISTRY.EXAMPLE/token"),
        ("https://registry.example/token?account=a&x=%2F", "https://registry.example/token?account=a&x=%2F"),
        ("https://registry.example/token#fragment", "https://registry.example/token"),
        ("/artifactory/api/docker/repo/v2/token", "https://registry.example/artifactory/api/docker/repo/v2/token"),
        ("//registry.example/token", "https://registry.example/token"),
        ("https://auth.listed.example:8443/token", "https://auth.listed.example:8443/token"),
    ],
)
def test_the_upstreams_own_origin_and_listed_ones_are_trusted(realm: str, url: str) -> None:
    judged, origin = judge_realm(realm, UPSTREAM, (LISTED.text,))
    assert str(judged) == url
    assert origin in {UPSTREAM, LISTED}


@pytest.mark.parametrize(
    "realm",
    [
        "http://registry.example/token",
        "https://registry.example:8443/token",
        "https://other.example/token",
        "https://auth.registry.example/token",
        "https://example/token",
        "https://auth.listed.example/token",
        "http://auth.listed.example:8443/token",
        "https://registry.example.evil.example/token",
        "https://registry.example./token",
        "https://user@registry.example/token",
        "https://registry.example@evil.example/token",
        "https://user:s3cret@registry.example/token",
        "https://registry.example\\@evil.example/token",
        "https://registry.example%2eevil.example/token",
        "https://127.0.0.1/token",
        "https://[::1]/token",
        "https://[::ffff:127.0.0.1]/token",
        "https://0.0.0.0/token",
        "https://2130706433/token",
        "https://0177.0.0.1/token",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://100.100.100.200/latest/meta-data/",
        "https://10.0.0.1/token",
        "https://[fe80::1]/token",
        "https://registry.exämple/token",
        "https://xn--registry-o4a.example/token",
        "file:///etc/passwd",
        "gopher://registry.example/token",
        "ftp://registry.example/token",
        "https://registry.example:99999/token",
        "https://registry.example:0/token",
        "https://[::1/token",
        "https://registry.example/to ken",
        "https://registry.example/token\r\nX: y",
        "https://registry.example\n.evil.example/",
        "\thttps://registry.example/token",
        "\x00",
        "/token\x7f",
        "/\ud800",
        "https://registry.example/" + "x" * 3000,
    ],
)
def test_every_other_token_server_is_refused_before_it_hears_of_us(realm: str) -> None:
    with pytest.raises(RealmRefused) as caught:
        judge_realm(realm, UPSTREAM, (LISTED.text,))
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_refusal_says_the_line_that_would_trust_it() -> None:
    line = 'set hosts."registry.example".realms: [https://auth.other.example:8443]'
    with pytest.raises(RealmRefused, match=re.escape(line)):
        judge_realm("https://auth.other.example:8443/token?a=b", UPSTREAM, ())


@pytest.mark.parametrize("host", ["r.example", f"{'long-name.' * 5}example"])
def test_a_refusal_shows_a_node_the_whole_line(host: str) -> None:
    with pytest.raises(RealmRefused) as caught:
        judge_realm(f"https://auth.{host}/token", Origin.parse(f"https://{host}"), ())
    assert f'set hosts."{host}".realms: [https://auth.{host}]' in Denied(str(caught.value)).reason_phrase
    assert "not trusted" in str(caught.value)


def test_the_scheme_of_the_upstream_counts_too() -> None:
    plain = Origin.parse("http://registry.example")
    assert judge_realm("http://registry.example/token", plain, ())[1] == plain
    with pytest.raises(RealmRefused):
        judge_realm("https://registry.example/token", plain, ())


@pytest.mark.parametrize("realm", ["?scope=repository:evil:push", "?a=b&scope=x&scope=y", "?%73cope=x&a=b"])
def test_a_scope_in_the_realm_itself_is_taken_out(realm: str) -> None:
    url, _ = judge_realm(f"/token{realm}", UPSTREAM, ())
    assert "scope" not in url.query
    assert url.query.get("a") == ("b" if "a=b" in realm else None)


def test_well_known_pairs_are_trusted_for_their_registry_alone() -> None:
    hub, auth = Origin.parse("https://registry-1.docker.io"), "https://auth.docker.io/token"
    assert BUILT_IN_REALMS[hub] == judge_realm(auth, hub, ())[1]
    with pytest.raises(RealmRefused):
        judge_realm(auth, UPSTREAM, ())
    with pytest.raises(RealmRefused):
        judge_realm("https://gitlab.com/jwt/auth", hub, ())


PARTS = st.sampled_from(
    [
        "https://",
        "http://",
        "//",
        "/",
        "registry.example",
        "evil.example",
        "@",
        ":",
        "443",
        "#",
        "?",
        "\\",
        "%2f",
        "[",
        "]",
    ]
)
REALMS = st.lists(PARTS, max_size=7).map("".join) | st.text(max_size=40)


@given(REALMS)
def test_no_realm_gets_a_request_to_another_origin_or_raises_anything_else(realm: str) -> None:
    with contextlib.suppress(RealmRefused):
        url, origin = judge_realm(realm, UPSTREAM, ())
        assert origin == UPSTREAM
        assert (url.scheme, (url.host or "").lower(), url.port) == ("https", "registry.example", 443)
        assert (url.user, url.password, url.fragment) == (None, None, "")
