"""What `serve` refuses at its start for a reason of the configuration, `check` refuses as well, in the same words."""

import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.cli.main import main

NO_FILE = "No such file or directory"
HOST = "registries: {icr.io: {endpoints: ['https://r.example']}}\nhosts: {r.example: {tls: "
LISTENER = "listeners: [{address: '127.0.0.1:0', "
BEARER = "auth: upstream, challenge: bearer, externalURL: 'https://p.example', tokenKeyFile"
CASES = {
    "a CA of a host": (
        HOST + "{caFile: DIR/missing}}}",
        "hosts.r.example.tls.caFile: cannot use DIR/missing: " + NO_FILE,
    ),
    "a CA of a host that is none": (
        HOST + "{caFile: DIR/text}}}",
        "hosts.r.example.tls.caFile: cannot use DIR/text: ",
    ),
    "a certificate for a host": (
        HOST + "{certFile: DIR/missing, keyFile: DIR/tls.key}}}",
        "hosts.r.example.tls.certFile: cannot use DIR/missing: " + NO_FILE,
    ),
    "a key for a host": (
        HOST + "{certFile: DIR/tls.crt, keyFile: DIR/missing}}}",
        "hosts.r.example.tls.keyFile: cannot use DIR/missing: " + NO_FILE,
    ),
    "a key for a host that does not fit": (
        HOST + "{certFile: DIR/tls.crt, keyFile: DIR/other.key}}}",
        "hosts.r.example.tls.certFile: cannot use DIR/tls.crt, DIR/other.key: ",
    ),
    "a pipe in the place of a CA": (
        HOST + "{caFile: DIR/pipe}}}",
        "hosts.r.example.tls.caFile: cannot use DIR/pipe: it is not a regular file",
    ),
    "a pipe in the place of a listener's key": (
        LISTENER + "tls: {certFile: DIR/tls.crt, keyFile: DIR/pipe}}]",
        "listeners[0].tls.keyFile: cannot read DIR/pipe: it is not a regular file",
    ),
    "users": (
        LISTENER + "clients: {auth: basic, htpasswdFile: DIR/missing}}]",
        "listeners[0].clients.htpasswdFile: cannot read DIR/missing: " + NO_FILE,
    ),
    "users that are none": (
        LISTENER + "clients: {auth: basic, htpasswdFile: DIR/text}}]",
        "listeners[0].clients.htpasswdFile: DIR/text:1: the line is not USER:HASH",
    ),
    "keys of tokens": (
        LISTENER + f"clients: {{{BEARER}: DIR/missing}}}}]",
        "listeners[0].clients.tokenKeyFile: cannot read DIR/missing: " + NO_FILE,
    ),
    "a listener's certificate": (
        LISTENER + "tls: {certFile: DIR/missing, keyFile: DIR/tls.key}}]",
        "listeners[0].tls.certFile: cannot read DIR/missing: " + NO_FILE,
    ),
    "a listener's key that does not fit": (
        LISTENER + "tls: {certFile: DIR/tls.crt, keyFile: DIR/other.key}}]",
        "listeners[0].tls.keyFile: DIR/other.key is not the key of the first certificate in DIR/tls.crt",
    ),
    "a listener's certificate that is too weak": (
        LISTENER + "tls: {certFile: DIR/weak.crt, keyFile: DIR/weak.key}}]",
        "listeners[0].tls.certFile: cannot use DIR/weak.crt: EE_KEY_TOO_SMALL",
    ),
    "a listener's CA of clients": (
        LISTENER
        + "tls: {certFile: DIR/tls.crt, keyFile: DIR/tls.key, clientCaFile: DIR/text}, clients: {auth: certificate}}]",
        "listeners[0].tls.clientCaFile: DIR/text contains no valid PEM certificates",
    ),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Files that a configuration can name."""
    leaf = trustme.CA().issue_cert("p.example")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    trustme.CA().issue_cert("p.example").private_key_pem.write_to_path(tmp_path / "other.key")
    weak_pair(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hunter2\n")
    return tmp_path


def weak_pair(directory: Path) -> None:
    """A certificate with an RSA key of 1024 bits, which OpenSSL does not serve with."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "p.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    (directory / "weak.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "weak.key").write_bytes(pem)


def written(directory: Path, settings: str) -> Path:
    """A configuration that listens on free ports."""
    listeners = "" if "listeners:" in settings else "listeners: [{address: '127.0.0.1:0'}]\n"
    file = directory / "config.yaml"
    text = f"version: 1\nadmin: {{address: '127.0.0.1:0'}}\n{listeners}{settings}\n"
    file.write_text(text.replace("DIR", str(directory)))
    return file


def place(file: Path, key: str) -> str:
    """Where the value of a key is written, as `file:line:column: `."""
    lines = enumerate(file.read_text().splitlines(), start=1)
    [(number, line)] = [(number, line) for number, line in lines if f"{key}: " in line]
    return f"{file}:{number}:{line.index(f'{key}: ') + len(key) + 3}: "


def refused(file: Path) -> list[str]:
    """Why `check` refuses a configuration; asserts that `serve` refuses it as well, with the same status and words."""
    check, serve = (CliRunner().invoke(main, [command, "--config", str(file)]) for command in ("check", "serve"))
    assert (check.exit_code, serve.exit_code) == (2, 2), (check.output, serve.output)
    *problems, count = serve.output.splitlines()
    assert count == f"scope-proxy: {len(problems)} error(s) in the configuration"
    assert [line for line in problems if line not in check.output] == []
    return problems


@pytest.mark.parametrize(("settings", "complaint"), CASES.values(), ids=CASES.keys())
def test_a_file_that_cannot_be_used_is_refused_in_its_place(directory: Path, settings: str, complaint: str) -> None:
    file = written(directory, settings)
    [problem] = refused(file)
    key = complaint.partition(":")[0].rpartition(".")[2]
    assert problem.startswith(place(file, key) + complaint.replace("DIR", str(directory)))
    assert "hunter2" not in problem


def test_every_file_that_cannot_be_used_is_reported_at_once(directory: Path) -> None:
    users = "{address: '127.0.0.1:1', clients: {auth: basic, htpasswdFile: DIR/missing}}"
    certificate = "{address: '127.0.0.1:2', tls: {certFile: DIR/missing, keyFile: DIR/missing}}"
    problems = refused(written(directory, f"listeners: [{users}, {certificate}]\n{HOST}{{caFile: DIR/missing}}}}}}"))
    assert [problem.split(": ")[1] for problem in problems] == [
        "listeners[0].clients.htpasswdFile",
        "listeners[1].tls.certFile",
        "hosts.r.example.tls.caFile",
    ]


def test_tracing_without_the_extra_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    file = written(directory, "tracing: {endpoint: 'http://127.0.0.1:4318/v1/traces'}")
    needs = "tracing: needs OpenTelemetry: install scope-proxy[otel], or remove tracing"
    assert refused(file) == [f"{file}:4:10: {needs}"]


def test_tracing_with_a_variable_that_the_library_refuses_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    file = written(directory, "tracing: {endpoint: 'http://127.0.0.1:4318/v1/traces'}")
    [problem] = refused(file)
    assert problem.startswith(f"{file}:4:10: tracing: cannot set up OpenTelemetry: max_queue_size ")


def test_a_forward_proxy_that_is_none_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://user:hunter2@proxy.example.com")
    [problem] = refused(written(directory, "registries: {}"))
    assert problem.startswith("environment variable HTTPS_PROXY: ")
    assert "hunter2" not in problem


def test_workers_without_a_directory_for_temporary_files_are_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(directory, "workers: 2")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(directory / "missing")])
    assert refused(file) == [
        f"{file}:4:10: workers: more than one worker requires a writable temporary directory: set TMPDIR"
    ]


def a_file(cache: Path) -> None:
    cache.write_text("a file")


def below_a_file(cache: Path) -> None:
    cache.parent.write_text("a file")


def a_link(cache: Path) -> None:
    cache.symlink_to(cache.parent, target_is_directory=True)


def a_directory_of_something_else(cache: Path) -> None:
    (cache / "blobs").mkdir(parents=True)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cache", a_file),
        ("file/cache", below_a_file),
        ("cache", a_link),
        ("cache", a_directory_of_something_else),
    ],
)
def test_a_cache_that_cannot_be_used_is_a_warning_and_nothing_is_made(
    directory: Path, name: str, make: Callable[[Path], None]
) -> None:
    cache = directory / name
    make(cache)
    file = written(directory, f"cache: {{path: {cache}}}")
    before = sorted(directory.rglob("*"))
    result = CliRunner().invoke(main, ["check", "--config", str(file)])
    assert result.exit_code == 0
    assert f"{file}:4:15: warning: nothing would be cached: " in result.output
    assert CliRunner().invoke(main, ["check", "--strict", "--config", str(file)]).exit_code == 1
    assert sorted(directory.rglob("*")) == before


def test_a_cache_that_is_not_there_yet_is_no_warning(directory: Path) -> None:
    file = written(directory, f"cache: {{path: {directory}/new/cache}}")
    assert CliRunner().invoke(main, ["check", "--strict", "--config", str(file)]).exit_code == 0
    assert not (directory / "new").exists()
