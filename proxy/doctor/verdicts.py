"""What the answers of a token server mean; pure."""

from proxy.doctor.access import granted_actions
from proxy.doctor.tokens import TokenAnswer
from proxy.oci.scope import PULL, Scope

_TOO_MANY = 429
_SERVER_ERROR = 500


def tells_little(status: int) -> bool:
    """Whether a refusal may have another cause than the scope, so that the good scope is to be asked for again."""
    return status == _TOO_MANY or status >= _SERVER_ERROR


def strictness(answer: TokenAnswer, scope: Scope) -> tuple[str, str]:
    """`strict` or `tolerant`, and why, by the answer to the scope and an unknown one beside it."""
    if answer.grant is None:
        seen = (
            f"strict: with an unknown scope beside it the token server {answer.told}; "
            "an unpatched containerd that rewrites fails here, scope-proxy asks for one scope"
        )
        return "strict", seen
    actions = granted_actions(answer.grant.token, scope.name)
    if actions is not None and PULL not in actions:
        seen = "strict: with an unknown scope beside it the token server answers 200 with a token that grants nothing"
        return "strict", seen
    return "tolerant", "tolerant: with an unknown scope beside it the token server answers 200 all the same"


def push_verdict(answer: TokenAnswer, scope: Scope) -> tuple[str, str]:
    """`refused`, `narrowed`, `granted` or `unknown`, and why, by the answer to a scope with pull and push."""
    if answer.grant is None:
        return "refused", f"refused: the token server {answer.told} for {scope}"
    actions = granted_actions(answer.grant.token, scope.name)
    if actions is None:
        return "unknown", f"unknown: the token server answers 200 for {scope}, and its tokens cannot be read"
    if "push" in actions or "*" in actions:
        return "granted", f"granted: the token server grants {','.join(sorted(actions))} for {scope.name}"
    return "narrowed", f"narrowed: asked for {scope}, the token server grants {','.join(sorted(actions)) or 'nothing'}"


def advice_for(status: int, scope: str) -> str:
    """What to do about a refusal of the one scope."""
    match status:
        case 200:
            return "look at what stands before the token server: this is no answer of one"
        case 401:
            return "check user name and password (docker login), and that the user may pull the repository"
        case 403:
            return "give the user the right to pull the repository"
        case 429:
            return "too many requests: wait, then try again"
        case 400 | 404:
            return f"it knows nothing of {scope}: look at the rewrite rule with scope-proxy explain IMAGE"
        case _ if status >= _SERVER_ERROR:
            return f"look at the token server's logs; some answer so where they have no project for {scope}"
        case _:
            return "look at the token server's logs"
