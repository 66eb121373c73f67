import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
import pytest
import trustme
from click.testing import CliRunner, Result

from proxy.cli.main import main

CONFIG = Path(__file__).resolve().parents[3] / "config"
BROKEN = """version: 1
registries:
  icr.io:
    endpoint: [https://registry.example.com]
    rewrites: [{pattern: '^(?=x)', replacement: '$1'}]
hosts:
  registry.example.com:
    credentials: {username: robot, pasword: hunter2}
timeouts: {manifest: 10}
"""


def check(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


def test_all_errors_at_once_each_with_its_place_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(BROKEN)
    result = check("--config", str(file))
    assert result.exit_code == 2
    for place in (":4:5: ", ":5:", ":8:", ":9:"):
        assert f"{file}{place}" in result.output
    assert "endpoints" in result.output
    assert "hunter2" not in result.output


def test_configuration_in_force_is_printed_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\nregistries: {icr.io: {endpoints: ['https://r.example.com']}}\n"
        "hosts: {r.example.com: {credentials: {username: robot, password: hunter2}}}\n"
    )
    result = check("--config", str(file), "--effective")
    assert result.exit_code == 0
    assert "username: robot" in result.output
    assert "hunter2" not in result.output


def test_missing_secret_file_is_a_warning_and_an_error_when_strict() -> None:
    arguments = ("--config", str(CONFIG / "artifactory.yaml"))
    assert check(*arguments).exit_code == 0
    result = check(*arguments, "--strict")
    assert result.exit_code == 1
    assert "artifactory.yaml:18:21: warning: passwordFile: " in result.output


def test_missing_certificate_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\nregistries: {icr.io: {endpoints: ['https://r.example.com']}}\n"
        "hosts: {r.example.com: {tls: {caFile: /no/such/ca.crt}}}\n"
    )
    result = check("--config", str(file))
    assert result.exit_code == 2
    assert f"{file}:3:39: hosts.r.example.com.tls.caFile: cannot use /no/such/ca.crt" in result.output


def test_forward_proxy_that_is_none_is_an_error_and_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://user:hunter2@proxy.example.com")
    result = check("--config", str(CONFIG / "default.yaml"))
    assert result.exit_code == 2
    assert "HTTPS_PROXY" in result.output
    assert "hunter2" not in result.output


def test_forward_proxy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    result = check("--config", str(CONFIG / "default.yaml"))
    assert result.exit_code == 0
    assert "cannot be judged" in result.output


def test_rule_that_prefixes_twice_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = (CONFIG / "huawei-swr.yaml").read_text().replace("nodeRewrites: true", "nodeRewrites: false")
    file.write_text(text)
    assert "set nodeRewrites: true on the registry" in check("--config", str(file)).output


def test_both_sources_are_one_too_many() -> None:
    result = check("--config", str(CONFIG / "default.yaml"), "--registries", str(CONFIG / "registries.yaml"))
    assert result.exit_code == 2
    assert "not both" in result.output


def test_missing_file_is_named() -> None:
    result = check("--config", "/no/such/file.yaml")
    assert result.exit_code == 2
    assert "/no/such/file.yaml" in result.output


def listening(tmp_path: Path, days: float) -> Path:
    now = datetime.now(UTC)
    leaf = trustme.CA().issue_cert("p.example", not_before=now - timedelta(days=99), not_after=now + timedelta(days))
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    file = tmp_path / "config.yaml"
    file.write_text(
        f"version: 1\nlisteners:\n- address: 127.0.0.1:0\n"
        f"  tls: {{certFile: {tmp_path}/tls.crt, keyFile: {tmp_path}/tls.key}}\n"
    )
    return file


def test_a_listener_certificate_that_ends_soon_is_a_warning_in_its_place(tmp_path: Path) -> None:
    file = listening(tmp_path, days=20)
    result = check("--config", str(file))
    assert result.exit_code == 0
    assert f"{file}:4:19: warning: the certificate in {tmp_path}/tls.crt expires on " in result.output
    assert check("--config", str(file), "--strict").exit_code == 1
    assert check("--config", str(listening(tmp_path, days=90)), "--strict").exit_code == 0


def test_an_expired_listener_certificate_is_a_warning_as_serve_and_a_reload_accept_it(tmp_path: Path) -> None:
    file = listening(tmp_path, days=-2)
    result = check("--config", str(file))
    assert result.exit_code == 0
    assert f"{file}:4:19: warning: the certificate in {tmp_path}/tls.crt expired on " in result.output
    assert check("--config", str(file), "--strict").exit_code == 1


def test_a_listener_certificate_that_is_not_that_of_its_key_is_an_error(tmp_path: Path) -> None:
    file = listening(tmp_path, days=90)
    (tmp_path / "tls.key").write_bytes(trustme.CA().issue_cert("p.example").private_key_pem.bytes())
    result = check("--config", str(file))
    assert result.exit_code == 2
    assert f": listeners[0].tls.keyFile: {tmp_path}/tls.key is not the key of " in result.output


@pytest.mark.parametrize("place", [".", "blobs"])
def test_a_cache_that_others_may_write_is_a_warning(tmp_path: Path, place: str) -> None:
    cache = tmp_path / "cache"
    (cache / "blobs").mkdir(parents=True)
    (cache / place).chmod(0o777)
    file = tmp_path / "config.yaml"
    file.write_text(f"version: 1\nregistries: {{docker.io: {{}}}}\ncache:\n  path: {cache}\n")
    result = check("--config", str(file))
    assert result.exit_code == 0
    assert f"{file}:4:9: warning: " in result.output
    assert check("--strict", "--config", str(file)).exit_code == 1


def test_bad_lines_of_files_of_clients_are_warnings_with_their_lines(tmp_path: Path) -> None:
    users, keys, file = tmp_path / "users", tmp_path / "keys", tmp_path / "config.yaml"
    users.write_text(f"alice:{bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}\nbob:canary-plain\n")
    keys.write_text(f"{'0123456789abcdef' * 4}\n\ncanary-short\n")
    tokens = f"{{auth: upstream, challenge: bearer, externalURL: 'https://p.example', tokenKeyFile: {keys}}}"
    file.write_text(
        "version: 1\nregistries: {icr.io: {}}\nlisteners:\n"
        f"  - {{address: '127.0.0.1:1', clients: {{auth: basic, htpasswdFile: {users}}}}}\n"
        f"  - {{address: '127.0.0.1:2', clients: {tokens}}}\n"
    )
    result = check("--config", str(file))
    assert result.exit_code == 0
    assert re.search(rf"{file}:4:\d+: warning: htpasswdFile: ignored line: {users}:2: ", result.output)
    assert re.search(rf"{file}:5:\d+: warning: tokenKeyFile: ignored line: {keys}:3: ", result.output)
    assert "canary" not in result.output
    assert check("--config", str(file), "--strict").exit_code == 1
