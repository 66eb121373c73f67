"""Statuses made up for tests."""

from typing import Any

from proxy.server.refusals import Refusal
from proxy.server.status.findings import level_of
from proxy.server.status.values import (
    EndpointStatus,
    Figures,
    ListenerStatus,
    Process,
    ScopeFigures,
    Status,
    StoreUsage,
    TokenFigures,
    UpstreamStatus,
)
from proxy.upstream.endpoints import EndpointHealth, EndpointState

NOW = 1_700_000_000.0


def process(**changes: Any) -> Process:
    usual = {"version": "1.2.3", "pid": 7, "workers": 1, "started_at": NOW - 60, "ready": True, "draining": False}
    return Process(**{**usual, "in_flight": 0, **changes})


def upstream(name: str, *states: EndpointState, error: str = "no connection") -> UpstreamStatus:
    endpoints = tuple(
        EndpointStatus(f"https://{number}.example/v2", health(state, error)) for number, state in enumerate(states)
    )
    return UpstreamStatus(name, level_of(endpoints), endpoints)


def health(state: EndpointState, error: str) -> EndpointHealth:
    if state in {EndpointState.OK, EndpointState.UNASKED}:
        return EndpointHealth(state)
    return EndpointHealth(state, NOW + 10, 3, error, NOW - 5, None)


def refusal(**changes: Any) -> Refusal:
    usual: dict[str, Any] = {
        **dict.fromkeys(("upstream", "url", "rule", "scope", "client"), ""),
        "at": NOW - 1,
        "first_at": NOW - 1,
        "times": 1,
        "request_id": "ab",
        "method": "GET",
        "operation": "manifest",
        "image": "reg.example/a:1",
        "explainable": True,
        "status": 403,
        "code": "DENIED",
        "reason": "no",
        "advice": "look",
        "address": "10.0.0.7",
    }
    return Refusal(**{**usual, **changes})


def status(**changes: Any) -> Status:
    usual: dict[str, Any] = {
        "at": NOW,
        "process": process(),
        "upstreams": (upstream("reg.example", EndpointState.OK),),
        "refusals": (),
        "figures": figures(),
        "store": StoreUsage("/cache", 1 << 30, 1 << 20, 3, ""),
        "listeners": (ListenerStatus("127.0.0.1:5000", tls=False, auth=("none",)),),
        "certificates": (),
        "reload": None,
        "warnings": (),
        "configuration": "version: 1\n",
    }
    return Status(**{**usual, **changes})


def figures() -> Figures:
    served = dict.fromkeys(("hit", "join", "miss", "stale", "bypass"), 0)
    tokens, scopes = TokenFigures(0, 0, 0, 0, 0), ScopeFigures(0, 0, 0, 0, 0)
    return Figures(0, 0, 0, served, 0, None, None, 0, 0, tokens, scopes, 0)
