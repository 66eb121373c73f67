import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.address import Origin
from proxy.transport.forward_proxy import ForwardProxies, ForwardProxy

BOTH = {"http_proxy": "http://plain.example:3128", "https_proxy": "http://tls.example:3128"}
PASSWORD = "pass:w@rd"
ENCODED = "pass%3Aw%40rd"


def uses_proxy(no_proxy: str, url: str) -> bool:
    proxies = ForwardProxies.from_environment({**BOTH, "no_proxy": no_proxy})
    return proxies.proxy_for(Origin.parse(url)) is not None


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://p.example:3128", "http://p.example:3128"),
        ("p.example:3128", "http://p.example:3128"),
        ("https://p.example", "https://p.example:443"),
        ("http://p.example/", "http://p.example:80"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
        (f"http://robot:{ENCODED}@p.example:3128", "http://p.example:3128"),
    ],
)
def test_proxy_urls_are_read_without_their_user(value: str, url: str) -> None:
    proxy = ForwardProxy.parse(value)
    assert proxy.url == url
    assert (proxy.authorization is not None) == ("@" in value)


def test_the_login_goes_into_its_header_and_nowhere_else() -> None:
    proxy = ForwardProxy.parse(f"http://robot:{ENCODED}@p.example:3128")
    assert proxy.authorization == "Basic " + base64.b64encode(f"robot:{PASSWORD}".encode()).decode()
    assert ENCODED not in repr(proxy)
    assert proxy.authorization not in repr(proxy)
    assert ForwardProxy.parse("http://robot@p.example").authorization == "Basic cm9ib3Q6"


@pytest.mark.parametrize(
    "value",
    [
        "socks5://robot:s3cret@p.example",
        "http://robot:s3cret@",
        "http://robot:s3cret@[::1",
        "http://robot:s3cret℀@p.example",
        "http://robot:s3cret@p.example:port",
        "http://robot:s3cret@p.example:0",
        "http://robot:s3cret@p.example:99999",
        "http://robot:s3/cret@p.example",
        "http://robot:s3cret@p exa mple",
        "robot:s3cret@",
    ],
)
def test_a_proxy_that_cannot_be_is_an_error_at_once_without_the_password(value: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY") as caught:
        ForwardProxies.from_environment({"HTTPS_PROXY": value})
    assert "s3" not in str(caught.value)


def test_each_scheme_has_its_variable_and_lower_case_goes_first() -> None:
    environment = {**BOTH, "HTTPS_PROXY": "http://other.example", "NO_PROXY": "no.example", "ALL_PROXY": "http://x"}
    proxies = ForwardProxies.from_environment(environment)
    plain, tls = (proxies.proxy_for(Origin.parse(f"{scheme}://r.example")) for scheme in ("http", "https"))
    assert (plain and plain.url, tls and tls.url) == ("http://plain.example:3128", "http://tls.example:3128")
    assert proxies.proxy_for(Origin.parse("https://no.example")) is None
    assert ForwardProxies.from_environment({"https_proxy": " "}).proxy_for(Origin.parse("https://r.example")) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", "https://r.example"),
        ("r.example", "https://r.example"),
        ("R.Example", "https://r.example"),
        ("a, r.example ,b", "https://r.example"),
        ("example", "https://a.b.example"),
        (".example", "https://r.example"),
        ("*.example", "https://r.example"),
        ("r.example:443", "https://r.example"),
        ("r.example:5000", "https://r.example:5000"),
        ("10.0.0.1", "https://10.0.0.1"),
        ("10.0.0.0/8", "https://10.1.2.3:5000"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("2001:db8::1", "https://[2001:db8::1]"),
        ("[2001:db8::1]", "https://[2001:db8::1]"),
        ("[2001:DB8:0::1]", "https://[2001:db8::1]"),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000"),
        ("2001:db8::/32", "https://[2001:db8::1]"),
        ("", "http://localhost:5000"),
        ("", "http://127.0.0.1:5000"),
        ("", "http://127.9.9.9"),
        ("", "https://[::1]"),
    ],
)
def test_exceptions_and_loopback_are_reached_directly(no_proxy: str, url: str) -> None:
    assert not uses_proxy(no_proxy, url)


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("", "https://r.example"),
        ("ple", "https://r.example"),
        ("r.example", "https://other-r.example"),
        ("sub.r.example", "https://r.example"),
        ("r.example:5000", "https://r.example"),
        ("10.0.0.0/8", "https://11.0.0.1"),
        ("10.0.0.0/8", "https://ten.example"),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]"),
        ("2001:db8::/32", "https://[2001:db9::1]"),
        (".,*.,:,[],/", "https://r.example"),
        ("r.example:²,:" + "9" * 5000, "https://r.example"),
    ],
)
def test_everything_else_goes_through_the_proxy(no_proxy: str, url: str) -> None:
    assert uses_proxy(no_proxy, url)


PIECES = st.sampled_from(
    ["http://", "user", ":", "s3cret", "@", "[", "]", "::1", "h.example", "/", "%40", "?", "#", "٣"]
)
VALUES = st.text(max_size=30) | st.lists(PIECES, max_size=8).map("".join)


@given(value=VALUES, no_proxy=VALUES)
def test_no_environment_raises_anything_but_value_error(value: str, no_proxy: str) -> None:
    with contextlib.suppress(ValueError):
        proxies = ForwardProxies.from_environment({"https_proxy": value, "no_proxy": no_proxy})
        for url in ("https://r.example", "https://10.0.0.1:5000", "https://[2001:db8::1]"):
            proxy = proxies.proxy_for(Origin.parse(url))
            assert proxy is None or str(Origin.parse(proxy.url)).startswith("http")
