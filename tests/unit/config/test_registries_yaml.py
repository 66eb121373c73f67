import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.errors import ConfigError
from proxy.config.load import Loaded
from proxy.k3s.mirrors import literal_length
from proxy.k3s.registries_yaml import parse_registries


def load(text: str) -> Loaded:
    return parse_registries(text, "r")


def notes(text: str) -> str:
    return "\n".join(map(str, load(text).notes))


def mirror(endpoints: str, rewrite: str = "{}", name: str = "docker.io") -> str:
    return f"mirrors:\n  {name}:\n    endpoint: {endpoints}\n    rewrite: {rewrite}\n"


def urls(loaded: Loaded, name: str = "docker.io") -> list[str]:
    return [endpoint.url for endpoint in loaded.config.registries[name].endpoints]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("m.example", "https://m.example"),
        ("m.example/v2", "https://m.example"),
        ("https://m.example/v2/", "https://m.example"),
        ("m.example:5000", "https://m.example:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("localhost:443", "https://localhost"),
        ("http://m.example", "http://m.example"),
        ("m.example/v2/proj", "https://m.example/v2/proj"),
        ("m.example//proj", "https://m.example/proj"),
    ],
)
def test_endpoints_are_normalised_as_k3s_does(endpoint: str, url: str) -> None:
    assert urls(load(mirror(f"['{endpoint}']")))[0] == url


def test_a_mirror_without_rewrites_ends_at_the_registry_itself() -> None:
    loaded = load(mirror("[m.example]"))
    assert urls(loaded) == ["https://m.example", "https://registry-1.docker.io"]
    assert [endpoint.forward_namespace for endpoint in loaded.config.registries["docker.io"].endpoints] == [True, False]
    assert "https://registry-1.docker.io is added as the last endpoint" in str(loaded.notes[0])


def test_a_mirror_with_rewrites_has_only_its_own_endpoints() -> None:
    loaded = load(mirror("[m.example]", "{'^a/(.*)$': 'b/$1'}"))
    assert urls(loaded) == ["https://m.example"]
    assert "the original name" in str(loaded.notes[0])


def test_the_registry_itself_listed_last_is_not_rewritten_unless_with_its_port() -> None:
    rule = "{'^a/(.*)$': 'b/$1'}"
    plain = load(mirror("[m.example, 'https://quay.io']", rule, "quay.io"))
    assert [endpoint.rewrites for endpoint in plain.config.registries["quay.io"].endpoints] == [None, ()]
    assert any("r:3:27: warning: k3s does not rewrite at the registry itself" in str(note) for note in plain.notes)
    trick = load(mirror("['https://quay.io:443']", rule, "quay.io"))
    assert trick.config.registries["quay.io"].endpoints[0].rewrites is None


def test_rewrites_without_an_endpoint_do_nothing() -> None:
    loaded = load("mirrors:\n  quay.io:\n    rewrite: {'a': 'b'}\n")
    assert loaded.config.registries["quay.io"].rewrites == ()
    assert "r:3:14: warning: k3s never rewrites where no endpoint is given" in str(loaded.notes[0])


def test_rules_are_ordered_by_specificity_and_keep_their_places() -> None:
    text = "mirrors:\n  docker.io:\n    endpoint: [m.example]\n    rewrite:\n"
    loaded = load(f"{text}      '(.*)': 'all/$1'\n      '^strimzi/(.*)': 's/$1'\n      '^rancher/(.*)': 'r/$1'\n")
    rules = loaded.config.registries["docker.io"].rewrites
    assert [rule.pattern for rule in rules] == ["^strimzi/(.*)", "^rancher/(.*)", "(.*)"]
    assert [loaded.positions.at("registries", "docker.io", "rewrites", n) for n in (0, 2)] == ["r:6:7", "r:5:7"]
    assert "k3s tries overlapping rules in random order" in "\n".join(map(str, loaded.notes))


@pytest.mark.parametrize(
    ("pattern", "length"),
    [("(.*)", 0), ("^cpopen/(.+)$", 7), ("ab*", 1), ("^a[.]b/(.*)", 4), (r"^a\.b/", 4), (r"^\d+", 0), ("^a{2}", 0)],
)
def test_literal_length(pattern: str, length: int) -> None:
    assert literal_length(pattern) == length


def test_rules_that_break_a_node_or_do_not_compile_are_reported() -> None:
    loaded = load(mirror("[m.example]", r"{'^foo\.bar/(.*)$': 'a/$1', '(?=x)': 'b', '^c/(.*)$': 'd/\1'}"))
    text = "\n".join(map(str, loaded.notes))
    assert "r:4:15: warning: k3s prints this rule unescaped into hosts.toml" in text
    assert "write [.] for" in text
    assert "this rule is left out, as k3s skips it: the pattern uses look-ahead" in text
    assert r"\1 is plain text in a Go template" in text
    assert len(loaded.config.registries["docker.io"].rewrites) == 2


def test_a_rule_that_is_not_idempotent_is_reported() -> None:
    assert "not idempotent" in notes(mirror("[m.example]", "{'(.*)': 'hmirror/$1'}"))


def test_what_yaml_v2_would_do_is_done_and_reported() -> None:
    text = "mirrors:\n  a.io: {endpoint: [x.example]}\n  a.io: {endpoint: [y.example], skip: 1}\nauths: {}\nother: 1\n"
    loaded = load(text)
    assert urls(loaded, "a.io")[0] == "https://y.example"
    text = "\n".join(map(str, loaded.notes))
    assert "r:3:3: warning: duplicate key 'a.io' (also in line 2): the last one counts" in text
    assert "r:3:33: warning: unknown key 'skip', k3s ignores it" in text
    assert "r:4:1: warning: auths is ignored" in text
    assert "r:5:1: warning: unknown key 'other', k3s ignores it" in text


def test_keys_that_never_match_are_left_out_with_the_right_key() -> None:
    text = "mirrors:\n  https://quay.io: {endpoint: [x.example]}\n  Docker.io: {}\n  '*': {}\n"
    loaded = load(f"{text}configs:\n  'https://x.example/v2': {{}}\n")
    text = "\n".join(map(str, loaded.notes))
    assert loaded.config.registries == {}
    assert "r:2:3: warning: nothing ever matches the key 'https://quay.io': it belongs under 'quay.io'" in text
    assert "r:3:3: warning: nothing ever matches the key 'Docker.io': it belongs under 'docker.io'" in text
    assert 'r:4:3: warning: "*" without an endpoint does nothing' in text
    assert "r:6:3: warning: nothing ever matches the key 'https://x.example/v2': it belongs under 'x.example'" in text


def auth(settings: str) -> Loaded:
    return load(f"mirrors: {{a.io: {{endpoint: [m.example]}}}}\nconfigs:\n  m.example:\n    auth: {settings}\n")


@pytest.mark.parametrize(
    ("settings", "username", "secret"),
    [
        ("{username: robot, password: 0123}", "robot", "0123"),
        ("{username: yes, password: on}", "yes", "on"),
        (f"{{auth: {base64.b64encode(b'robot:a:b').decode()}}}", "robot", "a:b"),
        ("{username: robot}", "robot", ""),
    ],
)
def test_users_and_passwords_are_taken_as_written(settings: str, username: str, secret: str) -> None:
    (credential,) = auth(settings).config.hosts["m.example"].credentials
    assert credential.username == username
    assert credential.password is not None
    assert credential.password.get_secret_value() == secret


def test_an_identity_token_is_taken() -> None:
    (credential,) = auth("{identity_token: hunter2}").config.hosts["m.example"].credentials
    assert credential.identity_token is not None
    assert credential.identity_token.get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{auth: ghp_hunter2}", "auth must be the base64 of user:password"),
        ("{token: hunter2}", "did you mean 'identity_token'?"),
        ("{password: hunter2}", "no username, identity_token or auth"),
        ("{username: a, password: hunter2, auth: hunter2}", "not used, as username is given"),
        ("{username: 'a:b', password: hunter2}", "colon"),
        ("{hunter2: a}", "unknown key, k3s ignores it"),
    ],
)
def test_credentials_that_do_nothing_are_reported_without_their_value(settings: str, message: str) -> None:
    loaded = auth(settings)
    text = "\n".join(map(str, loaded.notes))
    assert message in text
    assert "hunter2" not in f"{text} {loaded!r}"


def test_certificates_are_taken_and_a_lone_one_is_left_out() -> None:
    text = "mirrors: {a.io: {endpoint: [m.example, n.example]}}\nconfigs:\n  m.example:\n    tls: "
    text += (
        "{ca_file: /ca, cert_file: /c, key_file: /k, insecure_skip_verify: yes}\n  n.example: {tls: {cert_file: /c}}\n"
    )
    hosts = load(text).config.hosts
    assert hosts["m.example"].tls.model_dump() == {
        "ca_file": "/ca",
        "cert_file": "/c",
        "key_file": "/k",
        "insecure_skip_verify": True,
    }
    assert hosts["n.example"].tls.cert_file is None
    assert "cert_file and key_file" in notes(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("mirrors: []\n", "r:1:10"),
        ("mirrors: {a.io: {endpoint: x}}\n", "r:1:28"),
        ("mirrors: {a.io: {endpoint: [{a: b}]}}\n", "r:1:29"),
        ("configs: {a.io: {tls: {insecure_skip_verify: 'true'}}}\n", "r:1:46"),
        ("configs: {a.io: {auth: {password: [hunter2]}}}\n", "r:1:35"),
    ],
)
def test_what_k3s_refuses_is_refused(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match="k3s refuses the file as well") as caught:
        load(text)
    assert str(caught.value.problems[0].position) == place
    assert "hunter2" not in str(caught.value)


WORDS = [
    "mirrors:\n",
    "configs:\n",
    "  docker.io:",
    " '*':",
    "endpoint: ",
    "rewrite: ",
    "auth: ",
    "tls: ",
    "{",
    "}",
    "[",
]
WORDS += [
    "]",
    ": ",
    ", ",
    "\n",
    "    ",
    "a",
    "'(.*)': 'x/$1'",
    "yes",
    "1",
    "~",
    "*a",
    "&a ",
    "<<: ",
    "https://",
    "/v2",
    "//",
]


@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
def test_no_text_raises_anything_but_a_config_error(text: str) -> None:
    try:
        result = load(text).positions.at("registries")
    except ConfigError as error:
        result = str(error)
    assert result.startswith("r:")
