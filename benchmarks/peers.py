"""The peers: scope-proxy, and Debian's nginx and docker-registry as pull-through caches of the same origin."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.certificate import Certificate
from benchmarks.installation import Installation, checkout
from benchmarks.process import Started
from benchmarks.settings import Settings, merged, settings

READY_SECONDS = 30.0
POLL_SECONDS = 0.005
LOG_TAIL = 2000
"""Characters of a peer's log that an error shows."""
OURS = "scope-proxy"
BASELINE = "baseline"
"""The name of another revision or configuration of scope-proxy."""
LARGE = 32 * 1024 * 1024
"""Files of so many bytes are what `Peer.forget` removes."""

_NGINX = """
worker_processes 1;
{user}
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {directory}/access.log;
  sendfile on;
  keepalive_requests 100000000;
  client_body_temp_path {directory}/client;
  proxy_temp_path {directory}/temp;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  proxy_cache_path {directory}/cache levels=1:2 keys_zone=blobs:64m max_size=50g inactive=7d use_temp_path=off;
  upstream origin {{ server {origin}; keepalive 64; }}
  server {{
    listen {address}{ssl} backlog=1024;
    {certificate}
    location /v2/ {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache blobs;
      proxy_cache_key $uri;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 300s;
      proxy_cache_lock_age 300s;
      proxy_buffer_size 64k;
      proxy_buffers 16 256k;
      proxy_busy_buffers_size 1m;
      proxy_temp_file_write_size 1m;
    }}
  }}
}}
"""


class NotInstalled(Exception):
    """A peer's program is missing."""


class NotReady(Exception):
    """A peer does not start: the end of its log."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that runs and answers; the origin itself is one too, where a workload compares with it."""

    name: str
    address: str
    directory: Path
    server: Started
    ready_seconds: float = 0.0
    """From its start to its first answer."""
    authority: Path | None = None
    """Whose certificate it shows, where it listens with TLS."""

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"{'https' if self.authority else 'http'}://{self.address}"

    def forget(self) -> None:
        """Remove the large files that it has stored, which it must survive, and let the disk come to rest."""
        for directory, _, names in os.walk(self.directory):
            for name in names:
                file = Path(directory) / name
                if file.stat(follow_symlinks=False).st_size >= LARGE:
                    file.unlink()
        os.sync()

    def stop(self) -> None:
        """End it and remove what it stored."""
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def scope_proxy(
    origin: str,
    directory: Path,
    tls: Certificate | None = None,
    *,
    name: str = OURS,
    installation: Installation | None = None,
    changes: Settings | None = None,
) -> Peer:
    """scope-proxy with its defaults, one worker, one registry without credentials; the checkout by default."""
    installation = installation or checkout()
    address = _free_address()
    config = directory / "config.yaml"
    configuration = merged(settings(origin, address, directory / "store", tls), changes or {})
    config.write_text(json.dumps(configuration, default=str))
    command = [*installation.command, "serve", "--config", str(config)]
    return _started(name, command, address, directory, tls, environment=installation.environment)


def nginx(origin: str, directory: Path, tls: Certificate | None = None) -> Peer:
    """`proxy_cache`, tuned for large bodies; one worker; the access log as Debian has it."""
    address = _free_address()
    user = "user root;" if os.getuid() == 0 else ""
    config = directory / "nginx.conf"
    files = f"ssl_certificate {tls.chain}; ssl_certificate_key {tls.key};" if tls else ""
    certificate = f"ssl_protocols TLSv1.2 TLSv1.3; {files}" if tls else ""
    more = {"ssl": " ssl" if tls else "", "certificate": certificate}
    config.write_text(_NGINX.format(directory=directory, origin=origin, address=address, user=user, **more))
    return _started("nginx", [_program("nginx"), "-p", str(directory), "-c", str(config)], address, directory, tls)


def docker_registry(origin: str, directory: Path, tls: Certificate | None = None) -> Peer:
    """docker-registry in proxy mode; its answers to tags are always confirmed by the origin, it has no age of tags."""
    address = _free_address()
    config = directory / "config.yaml"
    files = {"tls": {"certificate": str(tls.chain), "key": str(tls.key)}} if tls else {}
    shape = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "store")}},
        "http": {"addr": address, **files},
        "proxy": {"remoteurl": f"http://{origin}"},
    }
    config.write_text(json.dumps(shape))
    return _started("docker-registry", [_program("docker-registry"), "serve", str(config)], address, directory, tls)


Starter = Callable[[str, Path, Certificate | None], Peer]
"""Starts a peer of the origin at an address, in an empty directory."""
PEERS: Mapping[str, Starter] = {
    OURS: scope_proxy,
    "nginx": nginx,
    "docker-registry": docker_registry,
}


def _wait_ready(name: str, address: str, started: Started, log: Path, tls: Certificate | None) -> None:
    """Wait for an answer to `/v2/`; raises NotReady with the end of the log."""
    context = ssl.create_default_context(cafile=tls.authority) if tls else None  # noqa: TID251 - our own
    begun = time.monotonic()
    while time.monotonic() - begun < READY_SECONDS and started.process.poll() is None:
        try:
            with contextlib.closing(_connection(address, context)) as connection:
                connection.request("GET", "/v2/")
                if connection.getresponse().status == http.client.OK:
                    return
        except OSError:
            time.sleep(POLL_SECONDS)
    started.stop()
    raise NotReady(f"{name} does not start: {log.read_text(errors='replace')[-LOG_TAIL:].strip()}")


def _connection(address: str, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if context is None:
        return http.client.HTTPConnection(address, timeout=READY_SECONDS)
    return http.client.HTTPSConnection(address, timeout=READY_SECONDS, context=context)


def _started(
    name: str,
    command: Sequence[str],
    address: str,
    directory: Path,
    tls: Certificate | None,
    *,
    environment: Mapping[str, str] | None = None,
) -> Peer:
    log = directory / "log"
    begun = time.monotonic()
    server = Started.start(command, log, environment)
    _wait_ready(name, address, server, log, tls)
    return Peer(name, address, directory, server, time.monotonic() - begun, tls.authority if tls else None)


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise NotInstalled(f"{name} is not installed: apt-get install {name}, or leave it out with --peers")
    return path
