from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from proxy.k3s.node_file import HEADER
from proxy.k3s.result import Settings
from tests.unit.k3s.support import PROXY, converted

OLD = """# managed by ansible

mirrors:
  # entitled images
  cp.icr.io:   # IBM
    # through the proxy of the company
    endpoint:  # one only
      - "https://m.example:8443"   # Frankfurt
    rewrite:
      # operators
      "^cp/(.+)$": "local/$1"

  # Docker Hub
  "docker.io":
    rewrite: {"(.*)": "hmirror/$1"}
    endpoint: ["https://swr.example"]  # SWR
    # nothing more
  "*":  # the embedded registry
  Quay.io:
    endpoint:
    - https://m.example:8443
  # end of mirrors

# robot, rotated weekly; once hunter2
configs:
  "m.example:8443":
    auth:
      username: robot
      password: hunter2
# the password is hunter2
"""
NEW = f"""{HEADER}
# managed by ansible

mirrors:
  # entitled images
  cp.icr.io:  # IBM
    # through the proxy of the company
    endpoint:  # one only
      - "{PROXY}"

  # Docker Hub
  "docker.io":
    endpoint:
      - "{PROXY}"
    # nothing more
  "*":  # the embedded registry
  quay.io:
    endpoint:
      - "{PROXY}"
  # Pulled directly until now, with the credentials or certificates under configs.
  "m.example:8443":
    endpoint:
      - "{PROXY}"
  # end of mirrors
"""
NAMES = ("docker.io", "quay.io", "ghcr.io", "icr.io", "registry.example.com:5000")
REAL = Path(__file__).parents[2] / "real" / "registries"


def test_comments_that_still_apply_stay() -> None:
    assert converted(OLD).node == NEW


def endpoints(text: str) -> dict[str, object]:
    value = YAML(typ="safe", pure=True).load(text)
    assert set(value) == {"mirrors"}
    return {name: mirror["endpoint"] for name, mirror in value["mirrors"].items()}


@pytest.mark.parametrize(
    "text",
    [
        "{mirrors: {docker.io: {endpoint: [m.example]}}}",
        "mirrors: {docker.io: {endpoint: [m.example]}}\n",
        "mirrors:\n  docker.io: &m {endpoint: [m.example]}\n",
        "mirrors:\n  docker.io:\n    <<: {endpoint: [m.example]}\n",
        "mirrors:\n  docker.io: {endpoint: [x.example]}\n  docker.io: {endpoint: [m.example]}\n",
        "---\nmirrors:\n    docker.io:\n        endpoint:\n            - m.example\n...\n",
        "mirrors:\n  docker.io:\n    endpoint:\n    - m.example\nother: |\n  text\n  of lines\n",
        "mirrors:\n  ? docker.io\n  : endpoint: [m.example]\n",
        "mirrors:\r\n  docker.io:\r\n    endpoint: [m.example]\r\n",
        "mirrors:\n  docker.io: {}\n",
        "mirrors:\n  docker.io:",
    ],
)
def test_however_a_file_is_written_the_node_asks_the_proxy(text: str) -> None:
    assert endpoints(converted(text).node) == {"docker.io": [PROXY]}


@pytest.mark.parametrize("file", sorted(REAL.glob("*.yaml")), ids=lambda file: file.stem)
def test_files_as_they_are_in_the_field_keep_what_they_say_of_mirrors(file: Path) -> None:
    text = file.read_text()
    for name, address in (
        ("registry", "https://r.example"),
        ("prefixed", "https://p.example"),
        ("tls", "https://t.example"),
    ):
        text = text.replace(f"{{{name}}}", address).replace(f"{{{name}_host}}", address.removeprefix("https://"))
    text = (
        text.replace("{host}", "r.example").replace("{ipv6}", "http://[::1]:5001").replace("{ipv6_host}", "[::1]:5001")
    )
    made = converted(text.replace("{nowhere}", "http://127.0.0.1:1").replace("{ca}", "/ca.pem"))
    assert endpoints(made.node) == {name: [PROXY] for name in made.config.registries}
    kept = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert made.node.startswith(HEADER)
    assert all(line in made.node for line in kept if file.stem not in {"direct", "anchors"})


def test_proxies_with_certificates_bring_their_authority() -> None:
    settings = Settings((PROXY, "https://proxy.example:5443"), "/etc/ssl/scope-proxy.pem")
    value = YAML(typ="safe", pure=True).load(converted("mirrors:\n  docker.io:\n", settings).node)
    assert value["mirrors"] == {"docker.io": {"endpoint": list(settings.proxies)}}
    assert value["configs"] == {"proxy.example:5443": {"tls": {"ca_file": "/etc/ssl/scope-proxy.pem"}}}


@given(
    st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
    st.lists(st.sampled_from(["", "  # note", "# note", "    # deep"]), min_size=12, max_size=12),
    st.sampled_from([2, 4]),
    st.booleans(),
)
def test_comments_anywhere_never_change_what_the_node_asks(
    names: list[str], notes: list[str], width: int, is_flow: bool
) -> None:
    blank, lines = " " * width, ["mirrors:"]
    comments = iter(notes * 4)
    for name in names:
        lines += [next(comments), f'{blank}"{name}":', next(comments)]
        lines += [f"{blank * 2}rewrite:", f"{blank * 3}'^a/(.*)$': 'b/$1'", next(comments)]
        lines += (
            [f"{blank * 2}endpoint: [https://m.example]"]
            if is_flow
            else [f"{blank * 2}endpoint:", f"{blank * 2}- m.example"]
        )
    lines += [next(comments), "configs:", f"{blank}m.example:", f"{blank * 2}tls: {{insecure_skip_verify: true}}"]
    assert endpoints(converted("\n".join(lines)).node) == {name: [PROXY] for name in [*names, "m.example"]}
