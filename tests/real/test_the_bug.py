"""The bug itself: a node whose mirror has a path asks the token server for two scopes, and a strict one refuses."""

from collections.abc import Callable

import pytest

from tests.real.containerd import Node
from tests.real.cri import Auth, CriError
from tests.real.hosts import write_mirror, write_server
from tests.real.images import PROJECT
from tests.real.registry import Registry
from tests.real.skopeo import Skopeo
from tests.real.strictness import STRICT_MODES, Mode
from tests.real.token_server import PASSWORD, USER, TokenServer

MINI = "cp.icr.io/cp/se-data-center-edge/mini-test:1"
MINI_SCOPES = (
    "repository:cp/se-data-center-edge/mini-test:pull",
    f"repository:{PROJECT}/cp/se-data-center-edge/mini-test:pull",
)
OPERATOR = "icr.io/cpopen/ibm-operator:1.2"
OPERATOR_SCOPES = ("repository:cpopen/ibm-operator:pull", f"repository:{PROJECT}/cpopen/ibm-operator:pull")
SECRET = Auth(username=USER, password=PASSWORD)
REASON = {
    Mode.ARTIFACTORY: "404 Not Found",
    Mode.SWR: "401 Unauthorized",
    Mode.GHCR: "403 Forbidden",
    Mode.HARBOR: "500 Internal Server Error",
}

SCOPES = {MINI: MINI_SCOPES, OPERATOR: OPERATOR_SCOPES}

both_images = pytest.mark.parametrize("image", SCOPES, ids=["mini-test", "operator"])
every_strict_mode = pytest.mark.parametrize("mode", STRICT_MODES, ids=[mode.value for mode in STRICT_MODES])
with_and_without_credentials = pytest.mark.parametrize("auth", [None, SECRET], ids=["anonymous", "credentials"])


@pytest.fixture
def mirrored(node: Node, registry: Registry) -> Node:
    """A node that asks the registry below a path, as for an Artifactory repository."""
    for name in ("cp.icr.io", "icr.io"):
        write_mirror(node.certs_d, name, [f"{registry.url}/v2/{PROJECT}"], override_path=True)
    return node


@both_images
@every_strict_mode
@with_and_without_credentials
def test_strict_token_server_refuses_the_pull_over_cri(
    mirrored: Node, tokens: TokenServer, mode: Mode, auth: Auth | None, image: str
) -> None:
    tokens.mode = mode
    with pytest.raises(CriError, match=_complaint(auth)) as refusal:
        mirrored.cri.pull(image, auth)
    assert REASON[mode] in str(refusal.value)
    assert mirrored.cri.status(image) is None
    token_requests = {(request.scopes, request.user, request.status) for request in tokens.requests}
    assert token_requests == {(SCOPES[image], auth and auth.username, int(mode.value))}


@every_strict_mode
@with_and_without_credentials
def test_strict_token_server_refuses_the_pull_with_ctr(
    mirrored: Node, tokens: TokenServer, mode: Mode, auth: Auth | None
) -> None:
    tokens.mode = mode
    pull = mirrored.ctr.pull(OPERATOR, user=f"{auth.username}:{auth.password}" if auth else None)
    assert pull.status != 0
    assert _complaint(auth) in pull.errors
    assert REASON[mode] in pull.errors
    assert tokens.scopes() == set(OPERATOR_SCOPES)


@both_images
@with_and_without_credentials
def test_tolerant_token_server_lets_the_pull_pass_though_both_scopes_are_requested(
    mirrored: Node, tokens: TokenServer, auth: Auth | None, image: str
) -> None:
    tokens.mode = Mode.TOLERANT
    mirrored.cri.pull(image, auth)
    mirrored.assert_complete(image)
    assert tokens.scopes() == set(SCOPES[image])


@pytest.mark.parametrize("form_status", [404, 405])
def test_credentials_travel_in_a_form_and_then_again_in_a_query(
    mirrored: Node, tokens: TokenServer, form_status: int
) -> None:
    tokens.post_status = form_status
    with pytest.raises(CriError, match="404 Not Found"):
        mirrored.cri.pull(OPERATOR, SECRET)
    form, query = tokens.requests[:2]
    assert (form.method, form.user, form.status) == ("POST", USER, form_status)
    assert form.scope_parameters == (" ".join(OPERATOR_SCOPES),)
    assert (query.method, query.user, query.status) == ("GET", USER, 404)
    assert query.scope_parameters == OPERATOR_SCOPES


def test_credentials_of_the_node_s_own_configuration_do_not_help(
    start_node: Callable[..., Node], registry: Registry, tokens: TokenServer
) -> None:
    node = start_node({registry.address: SECRET})
    write_mirror(node.certs_d, "icr.io", [f"{registry.url}/v2/{PROJECT}"], override_path=True)
    with pytest.raises(CriError, match="404 Not Found"):
        node.cri.pull(OPERATOR)
    assert {request.user for request in tokens.requests} == {USER}
    assert tokens.scopes() == set(OPERATOR_SCOPES)


def test_a_path_in_the_server_line_fails_like_one_in_a_mirror(
    node: Node, registry: Registry, tokens: TokenServer
) -> None:
    write_server(node.certs_d, "icr.io", f"{registry.url}/v2/{PROJECT}", override_path=True)
    with pytest.raises(CriError, match=r"failed to fetch anonymous token: .*404 Not Found"):
        node.cri.pull(OPERATOR)
    assert tokens.scopes() == set(OPERATOR_SCOPES)


def test_harbor_refuses_a_name_without_a_project(node: Node, registry: Registry, tokens: TokenServer) -> None:
    tokens.mode = Mode.HARBOR
    write_mirror(node.certs_d, "cp.icr.io", [f"{registry.url}/v2/{PROJECT}"], override_path=True)
    with pytest.raises(CriError, match="500 Internal Server Error"):
        node.cri.pull("cp.icr.io/mini-test:1")
    assert "repository:mini-test:pull" in tokens.scopes()


@every_strict_mode
@pytest.mark.parametrize("user", [None, f"{USER}:{PASSWORD}"], ids=["anonymous", "credentials"])
def test_skopeo_asks_one_scope_and_succeeds(
    skopeo: Skopeo, registry: Registry, tokens: TokenServer, mode: Mode, user: str | None
) -> None:
    tokens.mode = mode
    skopeo.copy(f"{registry.address}/{PROJECT}/mini-test:1", "mini-test", user=user).checked()
    assert "manifest.json" in skopeo.copied("mini-test")
    assert tokens.scopes() == {f"repository:{PROJECT}/mini-test:pull"}


def _complaint(auth: Auth | None) -> str:
    return "failed to fetch oauth token" if auth else "failed to fetch anonymous token"
