"""An object store on another origin: it serves signed addresses and likes no other credential."""

import itertools
from collections.abc import Callable

from proxy.testbed.answer import Answer, BodyContent, Bytes, body_answer
from proxy.testbed.library import Library
from proxy.testbed.record import Call, Kind
from proxy.testbed.routes import content_answer
from tests.fakes.scripted import ScriptedServer


class ObjectStore(ScriptedServer):
    """Serves objects by signed address, for GET alone unless `signs_head`; `strict` refuses Authorization with 400."""

    def __init__(self, *, signs_head: bool = False, strict: bool = True) -> None:
        super().__init__()
        self.signs_head = signs_head
        self.strict = strict
        self._signed: dict[str, BodyContent] = {}
        self._numbers = itertools.count(1)

    def sign(self, content: BodyContent) -> str:
        """A new address for this content."""
        signature = f"signature-{next(self._numbers)}"
        self._signed[signature] = content
        return f"{self.url}/bucket/object?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={signature}"

    def signer(self, library: Library) -> Callable[[Call], str]:
        """For `Redirect`: a fresh address for the blob that a request names."""
        return lambda call: self.sign(library.repositories[call.repository].blobs[call.reference])

    def expire_all(self) -> None:
        """Let every address so far be refused with 403."""
        self._signed.clear()

    def answer(self, call: Call) -> Answer:
        """What to answer to a request."""
        if self.strict and call.header("Authorization"):
            return _error(400, "InvalidArgument", "Only one auth mechanism allowed")
        content = self._signed.get(call.value("X-Amz-Signature"))
        if content is None:
            return _error(403, "AccessDenied", "Request has expired")
        if call.method == "HEAD" and not self.signs_head:
            return _error(403, "SignatureDoesNotMatch", "The signature was made for GET")
        return content_answer(call, content, [("ETag", '"object"')])

    def credential(self, call: Call) -> str:
        """The scheme of the Authorization header, or "anonymous"."""
        return call.header("Authorization").partition(" ")[0].lower() or "anonymous"

    def _route(self, path: str) -> tuple[Kind, str, str]:
        return "object", "", path


def _error(status: int, code: str, message: str) -> Answer:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return body_answer(status, Bytes(text.encode()), "application/xml")
