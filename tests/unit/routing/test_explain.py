import json

import pytest

from proxy.oci.errors import RegistryUnknown
from proxy.oci.reference import ImageReference
from proxy.routing.explain import Explanation, explain_image
from tests.unit.routing.support import loaded

REGISTRIES = """
    cp.icr.io:
      endpoints:
        - https://artifactory.example/v2/team
        - {url: https://second.example, scope: challenge, forwardNamespace: true, rewrites: []}
      rewrites:
        - {pattern: '^cp/app/(.+)$', replacement: 'local/$1'}
"""
HOSTS = """
    hosts:
      artifactory.example:
        credentials:
          - {repositories: 'team/**', username: robot, password: s3cret-value}
          - {username: fallback, password: other-s3cret}
    dockerConfigFiles: [/etc/auth.json]
"""


def explained(image: str) -> Explanation:
    source = loaded(REGISTRIES, HOSTS)
    return explain_image(source.config, source.positions, ImageReference.parse(image))


def test_everything_about_an_image_is_explained() -> None:
    explanation = explained("cp.icr.io/cp/app/mini:1.2")
    assert (explanation.registry, explanation.repository) == ("cp.icr.io", "cp/app/mini")
    first, second = explanation.endpoints
    assert first.request == "GET https://artifactory.example/v2/team/local/mini/manifests/1.2"
    assert first.scope == "repository:team/local/mini:pull"
    assert first.rule == "rewritten by ^cp/app/(.+)$ -> local/$1 (c.yaml:8:9)"
    assert first.credential == "robot (for team/**), then fallback, then /etc/auth.json (if it has an entry)"
    assert first.unpatched_rewriting == ("repository:cp/app/mini:pull", "repository:team/local/mini:pull")
    assert first.unpatched_plain == ("repository:cp/app/mini:pull", "repository:team/cp/app/mini:pull")
    assert second.request == "GET https://second.example/v2/cp/app/mini/manifests/1.2?ns=cp.icr.io"
    assert second.scope.startswith("repository:cp/app/mini:pull (or ")
    assert second.unpatched_plain == ("repository:cp/app/mini:pull",)


def test_the_explanation_is_plain_data_without_secrets() -> None:
    text = json.dumps(explained("cp.icr.io/cp/app/mini").as_dict())
    assert "robot" in text
    assert "s3cret" not in text


def test_without_credentials_it_says_so() -> None:
    source = loaded("r.example: {}")
    (endpoint,) = explain_image(source.config, source.positions, ImageReference.parse("r.example/a")).endpoints
    assert endpoint.credential == "none: the pull is anonymous"


def test_an_unknown_registry_is_the_error_that_a_pull_gets() -> None:
    with pytest.raises(RegistryUnknown):
        explained("other.example/a")


def test_what_the_access_rules_say_is_explained_for_a_client() -> None:
    source = loaded("r.example: {}", "access: [{action: deny, repositories: secret}, {action: allow, clients: alice}]")
    image = ImageReference.parse("r.example/secret")
    denied = explain_image(source.config, source.positions, image, "alice")
    assert (denied.client, denied.access.allowed, denied.access.place) == ("alice", False, "c.yaml:4:10")
    assert denied.endpoints
    other = ImageReference.parse("r.example/public")
    assert explain_image(source.config, source.positions, other, "alice").access.allowed
    assert not explain_image(source.config, source.positions, other).access.allowed
