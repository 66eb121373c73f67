"""A change of every setting that has one value: of those that only a restart changes, and of all others."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.config.base import Model, Restart, restart_mark
from proxy.config.listener import Listener
from proxy.config.model import Config
from proxy.config.reading.shape import is_collection, section_in

Document = Mapping[str, Any]

COLLECTOR = "http://127.0.0.1:4318/v1/traces"
BASE: Document = {
    "listeners": [{"address": "127.0.0.1:5000", "tls": {"certFile": "/tls.crt", "keyFile": "/tls.key"}}],
    "tracing": {"endpoint": COLLECTOR},
    "cache": {"path": "/var/cache"},
}
"""What is changed; sections that have no default are in it."""

RESTART: Document = {
    "admin.address": "127.0.0.1:5999",
    "admin.metricsAddress": ":5998",
    "workers": 2,
    "timeouts.request": "11s",
    "timeouts.clientStall": "11s",
    "timeouts.slowClient": "11s",
    "timeouts.shutdownGrace": "31s",
    "timeouts.drainIdle": "11s",
    "limits.connections": 5000,
    "limits.requests": 1000,
    "limits.minReadRate": "8Ki/s",
    "tracing.endpoint": "http://127.0.0.1:4319/v1/traces",
    "tracing.sampleRatio": 0,
    "listeners[].address": "127.0.0.1:5001",
    "listeners[].tls.certFile": "/other.crt",
    "listeners[].tls.keyFile": "/other.key",
    "listeners[].tls.clientCaFile": "/ca.crt",
    "listeners[].clients.auth": "certificate",
}
RELOAD: Document = {
    "registries": {"quay.io": {}},
    "defaultRegistry": "docker.io",
    "access": [{"action": "allow"}],
    "hosts": {"quay.io": {"maxConnections": 8}},
    "dockerConfigFiles": ["/etc/scope-proxy/secrets/users/config.json"],
    "cache.path": "/var/other",
    "cache.maxSize": "1Gi",
    "cache.keep": ["docker.io/library/nginx:1.27"],
    "cache.reserveFree": "2Gi",
    "cache.tagAge": "9s",
    "cache.staleIfError": "9s",
    "cache.staleAfter": "9s",
    "cache.staleIfDenied": True,
    "cache.negativeAge": "9s",
    "cache.verify": "always",
    "cache.delivery": "verified",
    "cache.finishAbandoned": False,
    "cache.maxManifestDigests": 100,
    "cache.minJoinRate": "8Ki/s",
    "cache.fetchTimeout": "9s",
    "cache.offline": True,
    "timeouts.manifest": "9s",
    "timeouts.blob": "9s",
    "timeouts.connect": "9s",
    "timeouts.stall": "9s",
    "log.level": "debug",
    "log.format": "text",
    "log.access": "denied",
    "listeners[].clients.allowAnonymous": True,
    "listeners[].clients.htpasswdFile": "/htpasswd",
    "listeners[].clients.subjects": ["node"],
    "listeners[].clients.challenge": "bearer",
    "listeners[].clients.externalURL": "https://proxy.example.com",
    "listeners[].clients.tokenKeyFile": "/key",
    "listeners[].clients.tokenLife": "9s",
    "listeners[].clients.proofAge": "9s",
    "listeners[].clients.whenUnreachable": "lastProof",
    "listeners[].clients.lastProofAge": "9s",
}


def changed(name: str, value: Any, base: Document = BASE) -> dict[str, Any]:
    """The base with one setting changed."""
    key, _, rest = name.partition(".")
    if key.endswith("[]"):
        [entry] = base[key.removesuffix("[]")]
        return {**base, key.removesuffix("[]"): [changed(rest, value, entry)]}
    return {**base, key: changed(rest, value, base.get(key) or {}) if rest else value}


def by_mark(*, restart: bool) -> set[str]:
    """The settings that the models mark, or those that they do not."""
    found = (*_settings(Config, ""), *_settings(Listener, "listeners[]."))
    return {name for name, mark in found if (mark is not None) is restart} - {"version", "listeners"}


def _settings(section: type[Model], prefix: str, above: Restart | None = None) -> Iterator[tuple[str, Restart | None]]:
    for name, field in section.model_fields.items():
        path, mark = f"{prefix}{field.alias or name}", above or restart_mark(field)
        inner = None if is_collection(field.annotation) else section_in(field.annotation)
        if inner is None:
            yield path, mark
        else:
            yield from _settings(inner, f"{path}.", mark)
