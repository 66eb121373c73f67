from proxy.config.load import parse_config, render_effective
from proxy.k3s.registries_yaml import parse_registries

TEXT = """\
version: 1
admin: null
registries:
  docker.io:
    endpoints: [https://m.example, {url: https://n.example/v2/p, rewrites: []}]
    rewrites: [{pattern: '^a: (.*)$', replacement: 'yes'}]
timeouts: {manifest: 1500ms, blob: 1m30s}
hosts:
  m.example:
    credentials:
      - {username: 'on', password: hunter2}
      - {repositories: 'a/**', identityToken: hunter2}
      - {repositories: 'b/**', helper: pass}
"""


def test_it_is_a_configuration_again_with_the_same_meaning() -> None:
    loaded = parse_config(TEXT, "f")
    again = parse_config(render_effective(loaded), "g").config
    hidden = {"password", "identity_token"}
    exclude = {"hosts": {"m.example": {"credentials": {"__all__": hidden}}}}
    assert again.model_dump(exclude=exclude) == loaded.config.model_dump(exclude=exclude)


def test_it_holds_no_secret_and_says_that_there_is_one() -> None:
    text = render_effective(parse_config(TEXT, "f"))
    assert "hunter2" not in text
    assert "password: <set>" in text
    assert "identityToken: <set>" in text


def test_durations_carry_their_units() -> None:
    text = render_effective(parse_config(TEXT, "f"))
    assert "manifest: 1500ms" in text
    assert "blob: 90s" in text


def test_an_imported_file_is_printed_in_our_own_format() -> None:
    loaded = parse_registries("mirrors: {a.io: {endpoint: [m.example], rewrite: {'^a/(.*)$': 'b/$1'}}}\n", "r")
    again = parse_config(render_effective(loaded), "g")
    assert again.config == loaded.config
    assert again.config.registries["a.io"].rewrites[0].replacement == "b/$1"
