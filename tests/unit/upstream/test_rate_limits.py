"""What is read from the headers of registries, and how much of it is remembered."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest

from proxy.observe.metrics import forget, known
from proxy.oci.login import ANONYMOUS, Caller, Login, LoginKind
from proxy.oci.request import Operation
from proxy.routing.table import Route
from proxy.runtime.series import RATE_LIMITS
from proxy.upstream.rate_limit_headers import LONGEST_WINDOW, UNKNOWN_WINDOW, parse_rate_limit
from proxy.upstream.rate_limits import LABELS_LIMIT, RateLimits
from proxy.upstream.send import EndpointRequest, UpstreamRequest, UpstreamResponse
from tests.unit.routing.support import table

NOW = 1_700_000_000.0
ENDPOINTS = "reg.example: {endpoints: ['https://one.example', 'https://two.example']}"


@pytest.fixture(autouse=True)
def _no_series() -> None:
    for gauge in RATE_LIMITS:
        forget(gauge, known(gauge))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Docker Hub
        ({"limit": "100;w=21600", "remaining": "76;w=21600"}, (100, 76, 21600, 21600)),
        # the drafts of the IETF: the limit in force, then the policies; seconds until the reset
        ({"limit": "100, 100;w=60;burst=9", "remaining": "7", "reset": "13"}, (100, 7, 60, 13)),
        # GitLab: a Unix time
        ({"limit": "600", "remaining": "594", "reset": str(int(NOW) + 42)}, (600, 594, None, 42)),
        ({"limit": "600", "remaining": "594", "reset": str(int(NOW) - 42)}, (600, 594, None, 0)),
        ({"remaining": "5"}, (None, 5, None, UNKNOWN_WINDOW)),
        ({"limit": "5"}, (5, None, None, UNKNOWN_WINDOW)),
        ({"remaining": "5", "reset": "999999999999"}, (None, 5, None, LONGEST_WINDOW)),
        ({"remaining": "5;w=0", "reset": "soon"}, (None, 5, None, UNKNOWN_WINDOW)),
        ({"remaining": "5", "limit": "many", "reset": "1.5"}, (None, 5, None, 1.5 // 1)),
        ({"limit": "many", "remaining": "-1"}, None),
        ({"limit": "9" * 10, "remaining": " "}, None),
        ({"remaining": "1" + " " * 5000}, None),
        ({"reset": "3"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("prefix", ["ratelimit-", "x-ratelimit-"])
def test_headers(prefix: str, headers: Mapping[str, str], expected: tuple[object, ...] | None) -> None:
    found = parse_rate_limit({f"{prefix}{name}": value for name, value in headers.items()}, NOW)
    values = None if found is None else (found.limit, found.remaining, found.window, found.reset_at - NOW)
    assert values == expected


@pytest.mark.parametrize(
    ("limit", "remaining", "low"),
    [
        (None, 1, False),
        (None, 0, True),
        (100, 11, False),
        (100, 10, True),
        (1000, 100, True),
        (1000, 101, False),
        (20, 9, True),
        (20, 10, False),
        (4, 2, True),
        (4, 3, False),
        (1, 1, False),
        (1, 0, True),
        (0, 0, True),
    ],
)
def test_little_is_a_tenth_or_fewer_than_ten_of_a_larger_number(limit: int | None, remaining: int, low: bool) -> None:
    named = {} if limit is None else {"ratelimit-limit": str(limit)}
    found = parse_rate_limit({**named, "ratelimit-remaining": str(remaining)}, NOW)
    assert found is not None
    assert found.is_low is low


class Response:
    """As much of a response as is read here."""

    def __init__(self, headers: Mapping[str, str], login: Login, method: str) -> None:
        self.headers = headers
        self.login = login
        self.method = method
        self.status = 200
        self.elsewhere = False


class Noted:
    """Rate limits, and responses to requests for one repository."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.limits = RateLimits(clock=lambda: self.now, wall_clock=lambda: self.now + NOW)
        self.route = table(ENDPOINTS).resolve("team/app", namespace="reg.example")

    def note(
        self,
        remaining: int,
        *,
        endpoint: int = 0,
        login: Login = ANONYMOUS,
        route: Route | None = None,
        prefix: str = "",
        method: str = "GET",
    ) -> None:
        route = route or self.route
        headers = {f"{prefix}ratelimit-limit": "100;w=21600", f"{prefix}ratelimit-remaining": str(remaining)}
        wanted = UpstreamRequest(Operation.MANIFEST, "manifests/1", method)
        request = EndpointRequest(route, route.targets[endpoint], wanted)
        self.limits.note(request, cast("UpstreamResponse", Response(headers, login, method)))

    def left(self) -> dict[str, int | None]:
        return {each.credential: each.remaining for each in self.limits.statuses()}


def login(name: str) -> Login:
    return Login(name, LoginKind.PASSWORD, name, "secret")


def test_of_several_endpoints_the_lowest_is_reported_as_long_as_it_counts() -> None:
    noted = Noted()
    noted.note(9)
    noted.now += 100
    noted.note(80, endpoint=1)
    assert noted.left() == {"anonymous": 9}
    assert noted.limits.reason_to_save(noted.route) is None  # the other endpoint has enough
    noted.now += 21550
    assert noted.left() == {"anonymous": 80}
    noted.now += 100
    assert noted.left() == {}


def test_the_headers_of_a_gateway_do_not_replace_those_of_the_registry() -> None:
    noted = Noted()
    noted.note(50)
    noted.note(99, prefix="x-")
    assert noted.left() == {"anonymous": 50}
    noted.now += 21601
    noted.note(99, prefix="x-")
    assert noted.left() == {"anonymous": 99}


def test_names_do_not_collide_and_there_are_not_many() -> None:
    noted = Noted()
    noted.note(5, login=login("client"))
    noted.note(6, login=login("anonymous\n\x1b[1m" + "x" * 500))
    assert {len(name) <= 130 and name.isprintable() for name in noted.left()} == {True}
    assert "client" not in noted.left()
    for number in range(3 * LABELS_LIMIT):
        noted.note(number, login=login(f"user{number}"))
    assert len(noted.left()) == LABELS_LIMIT + 1
    assert "other" in noted.left()


def test_each_client_has_a_limit_of_its_own_under_one_name() -> None:
    noted = Noted()
    routes = [
        replace(noted.route, caller=Caller(f"client{number}", login(f"client{number}"))) for number in range(1000)
    ]
    for number, route in enumerate(routes):
        for endpoint in (0, 1):
            noted.note(1 if number == 999 else 70, route=route, endpoint=endpoint, login=login(f"client{number}"))
    assert noted.left() == {"client": 1}
    assert noted.limits.reason_to_save(routes[998]) is None
    assert noted.limits.reason_to_save(routes[999]) is not None
    assert noted.limits.reason_to_save(noted.route) is None
