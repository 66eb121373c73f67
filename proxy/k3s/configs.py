"""`configs` of a registries.yaml: credentials and certificates of hosts."""

import base64
import binascii

from proxy.config.errors import KeyPath
from proxy.config.reading.yaml_values import Value
from proxy.k3s.reader import Reader

Settings = dict[str, Value]
_TLS = {"ca_file": "caFile", "cert_file": "certFile", "key_file": "keyFile"}


def read_host(reader: Reader, name: str, value: Value) -> Settings:
    """Read one entry of `configs` into the settings of one of our `hosts`."""
    path: KeyPath = ("configs", name)
    section = reader.section(path, value, ("auth", "tls"))
    host: Settings = {}
    credential = _credential(reader, (*path, "auth"), section.get("auth"))
    if credential:
        host["credentials"] = [credential]
    tls = _tls(reader, (*path, "tls"), section.get("tls"))
    if tls:
        host["tls"] = tls
    return host


def _credential(reader: Reader, path: KeyPath, value: Value) -> Settings:
    """What containerd uses of an `auth`: the user name, else the identity token, else `auth`."""
    known = ("username", "password", "identity_token", "auth")
    section = reader.section(path, value, known)
    given = {key: reader.text((*path, key), section[key]) for key in known if key in section}
    ways = [key for key in ("username", "identity_token", "auth") if given.get(key)]
    if len(ways) > 1:
        reader.findings.warning((*path, ways[1]), f"not used, as {ways[0]} is given: containerd uses only one")
    if not ways:
        if section:
            reader.findings.warning(path, "no username, identity_token or auth: containerd logs in without credentials")
        return {}
    if ways[0] == "username":
        return _basic(reader, (*path, "username"), given["username"], given.get("password", ""))
    if ways[0] == "identity_token":
        return {"identityToken": given["identity_token"]}
    return _decoded(reader, (*path, "auth"), given["auth"])


def _basic(reader: Reader, path: KeyPath, username: str, password: str) -> Settings:
    if ":" in username:
        reader.findings.warning(path, "left out: a user name cannot contain a colon")
        return {}
    return {"username": username, "password": password}


def _decoded(reader: Reader, path: KeyPath, encoded: str) -> Settings:
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        text = ""
    username, colon, password = text.partition(":")
    if not colon or not username:
        reader.findings.warning(
            path,
            "left out: auth must be the base64 of user:password. Put an access token into password, with its user "
            "name in username",
        )
        return {}
    return {"username": username, "password": password.rstrip("\0")}


def _tls(reader: Reader, path: KeyPath, value: Value) -> Settings:
    section = reader.section(path, value, (*_TLS, "insecure_skip_verify"))
    tls: Settings = {}
    for key, setting in _TLS.items():
        text = reader.text((*path, key), section.get(key))
        if text:
            tls[setting] = text
    if reader.boolean((*path, "insecure_skip_verify"), section.get("insecure_skip_verify")):
        tls["insecureSkipVerify"] = True
    if ("certFile" in tls) != ("keyFile" in tls):
        lone = "cert_file" if "certFile" in tls else "key_file"
        reader.findings.warning((*path, lone), "left out: cert_file and key_file require each other")
        tls.pop("certFile", None)
        tls.pop("keyFile", None)
    return tls
