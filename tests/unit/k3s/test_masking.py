import pytest

from proxy.k3s.node_file import masked, secret_values

TEXT = """mirrors:
  a.io: {endpoint: [m.example]}  # not hunter2
configs:
  m.example:
    auth:
      username: robot
      password: hunter2   # weekly
      odd: another
  n.example: {auth: {username: u, auth: "dTpw"}, password: misplaced}
  o.example:
    auth:
      password: |
        first
        second
      identity_token: 'refresh me'
auths:
  p.example: {auth: old}
"""
SECRETS = ("hunter2", "another", "dTpw", "misplaced", "first", "second", "refresh me", "old")


def test_secrets_alone_are_masked() -> None:
    masked_text = masked(TEXT, "r")
    assert not any(secret in masked_text for secret in SECRETS)
    for kept in ("endpoint: [m.example]}", "username: robot", "password: <secret>   # weekly", "username: u, auth:"):
        assert kept in masked_text
    assert masked_text.count("<secret>") == 8


def test_values_are_those_of_secrets_only() -> None:
    values = secret_values(TEXT, "r")
    assert {"hunter2", "another", "dTpw", "misplaced", "refresh me", "old"} <= values
    assert not {"robot", "u", "m.example"} & values


@pytest.mark.parametrize("text", ["", "a", "- a\n- b\n", "a: &x {password: p}\nb: *x\n"])
def test_any_file_can_be_masked(text: str) -> None:
    assert "p}" not in masked(text, "r")
