"""The files of a listener are certificate before they are used; nothing that stands in them is repeated."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.config.listener import ListenerTls
from proxy.server.listener.tls import PEM_LIMIT, check_certificate

NAME = "proxy.example"
LISTENER = ("listeners", 0, "tls")


def issued(days: float = 90) -> trustme.LeafCert:
    now = datetime.now(UTC)
    return trustme.CA().issue_cert(NAME, not_before=now - timedelta(days=400), not_after=now + timedelta(days=days))


@pytest.fixture
def tls(tmp_path: Path) -> ListenerTls:
    leaf = issued()
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    files = {"certFile": f"{tmp_path}/tls.crt", "keyFile": f"{tmp_path}/tls.key", "clientCaFile": f"{tmp_path}/ca.crt"}
    return ListenerTls.model_validate(files)


def complaint(tls: ListenerTls) -> str:
    with pytest.raises(ValueError, match=r"^listeners\[0\]\.tls\.") as caught:
        check_certificate(tls, LISTENER)
    assert caught.value.__cause__ is None
    return str(caught.value).removeprefix("listeners[0].tls.")


def test_files_that_fit_are_good(tls: ListenerTls) -> None:
    certificate = check_certificate(tls, LISTENER)
    assert certificate.warning is None
    assert not certificate.is_expired


def test_certificate_and_key_may_stand_in_one_file(tls: ListenerTls) -> None:
    both = Path(tls.cert_file)
    both.write_bytes(both.read_bytes() + Path(tls.key_file).read_bytes())
    assert check_certificate(tls.model_copy(update={"key_file": tls.cert_file}), LISTENER).warning is None


@pytest.mark.parametrize(
    ("days", "said"), [(29, "expires on "), (-1, "expired on "), (31, None)], ids=["soon", "over", "not yet"]
)
def test_an_expiry_that_is_near_or_past_is_reported(tls: ListenerTls, days: int, said: str | None) -> None:
    leaf = issued(days)
    leaf.cert_chain_pems[0].write_to_path(tls.cert_file)
    leaf.private_key_pem.write_to_path(tls.key_file)
    certificate = check_certificate(tls, LISTENER)
    assert certificate.is_expired == (days < 0)
    assert (certificate.warning or "").startswith(f"the certificate in {tls.cert_file} {said}" if said else "")
    assert (certificate.warning is None) == (said is None)


@pytest.mark.parametrize(
    ("setting", "name"), [("certFile", "tls.crt"), ("keyFile", "tls.key"), ("clientCaFile", "ca.crt")]
)
def test_each_file_is_named_with_its_setting(tls: ListenerTls, setting: str, name: str) -> None:
    file = Path(tls.cert_file).with_name(name)
    data = file.read_bytes()
    file.unlink()
    assert complaint(tls) == f"{setting}: cannot read {file}: No such file or directory"
    file.mkdir()
    assert complaint(tls) == f"{setting}: cannot read {file}: Is a directory"
    file.rmdir()
    for broken in (b"", b"canary", data[:100], data.replace(b"\n", b"\n!canary", 3)):
        file.write_bytes(broken)
        said = complaint(tls)
        assert said.startswith(f"{setting}: {file} contains no ")
        assert "canary" not in said
    file.write_bytes(data + b"\n" * PEM_LIMIT)
    assert complaint(tls) == f"{setting}: {file} is larger than 1 MiB: not a PEM file"


def test_a_key_of_another_certificate_does_not_fit(tls: ListenerTls) -> None:
    issued().private_key_pem.write_to_path(tls.key_file)
    assert complaint(tls) == f"keyFile: {tls.key_file} is not the key of the first certificate in {tls.cert_file}"


def test_an_encrypted_key_is_refused_without_a_prompt(tls: ListenerTls) -> None:
    key = load_pem_private_key(Path(tls.key_file).read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary"))
    Path(tls.key_file).write_bytes(sealed)
    assert complaint(tls) == f"keyFile: {tls.key_file} is encrypted: store the key without a password"
