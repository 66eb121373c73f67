"""TLS of the listeners: their certificates are judged, and loaded again when their files change."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from proxy.config.errors import KeyPath, SettingError, setting_name
from proxy.config.files import FileState, read_bounded, state_of
from proxy.config.listener import ClientAuth, Listener, ListenerTls
from proxy.observe.metrics import TLS_NOT_AFTER
from proxy.transport.singleflight import Background
from proxy.transport.verification import verify_as_go

PEM_LIMIT = 1024 * 1024
"""Most bytes of a file of certificates or of a key."""
EXPIRY_NOTICE = timedelta(days=30)
"""How long before its end a certificate is spoken of."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A certificate that can be served with its key."""

    file: str
    ends: datetime

    @property
    def has_ended(self) -> bool:
        """Whether clients refuse it."""
        return self.ends <= datetime.now(UTC)

    @property
    def notice(self) -> str | None:
        """What the operator should know of its end, if that is near or past."""
        if self.has_ended:
            return f"the certificate in {self.file} ended on {self.ends:%Y-%m-%d}: clients refuse it, renew it"
        if self.ends - datetime.now(UTC) < EXPIRY_NOTICE:
            return f"the certificate in {self.file} ends on {self.ends:%Y-%m-%d}: renew it"
        return None


def judge(tls: ListenerTls, path: KeyPath) -> Judged:
    """The certificate of a listener, whose key and authorities fit.

    Raises SettingError for a setting below `path`; it names the file, and repeats nothing of its content.
    """
    from proxy.server.listener import pem  # noqa: PLC0415 - it loads a library that plain listeners do not need

    where = (*path, "certFile")
    data = _read(tls.cert_file, where)
    try:
        certificate = pem.first_certificate(data)
    except ValueError:
        raise SettingError(where, f"{tls.cert_file} holds no certificate in PEM that can be used") from None
    where = (*path, "keyFile")
    data = _read(tls.key_file, where)
    try:
        fits = pem.is_key_of(certificate, data)
    except TypeError:
        raise SettingError(where, f"{tls.key_file} is encrypted: write the key without a password") from None
    except ValueError:
        raise SettingError(where, f"{tls.key_file} holds no private key in PEM that can be used") from None
    if not fits:
        raise SettingError(where, f"{tls.key_file} is not the key of the first certificate in {tls.cert_file}")
    if tls.client_ca_file is not None:
        _judge_authorities(tls.client_ca_file, (*path, "clientCaFile"))
    return Judged(tls.cert_file, certificate.not_valid_after_utc)


def _judge_authorities(file: str, path: KeyPath) -> None:
    _read(file, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file)
    except OSError:
        raise SettingError(path, f"{file} holds no certificates in PEM that can be used") from None


def _read(file: str, path: KeyPath) -> bytes:
    try:
        data, _ = read_bounded(file, PEM_LIMIT)
    except OSError as error:
        raise SettingError(path, f"cannot read {file}: {error.strerror}") from None
    if data is None or len(data) > PEM_LIMIT:
        raise SettingError(path, f"{file} is larger than {PEM_LIMIT >> 20} MiB: this is no PEM file")
    return data


RELOAD_SECONDS = 5.0
"""How often the files are looked at."""

_Seen = tuple[FileState | None, ...]
"""What tells one state of the files from another."""

_logger = logging.getLogger(__name__)


class _NewestContext(ssl.SSLContext):
    """What a listener is started with: each new connection is made by the context that was loaded last.

    A context in use cannot be changed as a whole: authorities can be added to it and never removed, and a session that
    it once began goes on for clients whose authority is gone (`sni_callback` changes neither that nor the verify mode).
    """

    newest: ssl.SSLContext
    problem: str = ""
    """Why files that have changed are not in use; empty where all is well."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT002 - the signature is Python's
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """One connection, as asyncio makes them."""
        return self.newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class ReloadingTls:
    """The TLS of one listener; connections that are open keep what they began with."""

    def __init__(self, tls: ListenerTls, auth: tuple[ClientAuth, ...], path: KeyPath) -> None:
        self._context = _NewestContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls = tls
        self._auth = auth
        self._path = path
        self._setting = setting_name(path)
        self._seen: _Seen = ()

    @property
    def context(self) -> ssl.SSLContext:
        """What the listener is started with, once the files are loaded."""
        return self._context

    async def load(self) -> None:
        """Load the files; raises ValueError that says which of them is wrong, and keeps what was loaded before."""
        self._seen = await asyncio.to_thread(self._look)  # before they are read: what changes meanwhile is seen later
        newest, judged = await asyncio.to_thread(build_context, self._tls, self._auth, self._path)
        self._context.newest, self._context.problem = newest, ""
        TLS_NOT_AFTER.labels(self._setting).set(judged.ends.timestamp())
        if judged.notice is not None:
            _logger.warning("%s.certFile: %s", self._setting, judged.notice)

    async def watch(self) -> None:
        """Load the files whenever they have changed; each change that cannot be used is told once."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                if await asyncio.to_thread(self._look) != self._seen:
                    await self.load()
                    _logger.info("%s: changed files are loaded, new connections get them", self._setting)
            except ValueError as error:
                self._context.problem = str(error)
                _logger.warning("%s. What was loaded before stays in use", error)
            except Exception:
                _logger.exception("a bug: the files of %s are not loaded", self._setting)

    def _look(self) -> _Seen:
        files = (self._tls.cert_file, self._tls.key_file, self._tls.client_ca_file)
        return tuple(state_of(file) for file in files if file is not None)


def build_context(tls: ListenerTls, auth: tuple[ClientAuth, ...], path: KeyPath) -> tuple[ssl.SSLContext, Judged]:
    """The context of a listener whose files can be used, and its certificate; blocks. Raises SettingError."""
    judged = judge(tls, path)
    try:
        return _context(tls, verify_mode(auth)), judged
    except OSError as error:  # ssl.SSLError among them
        reason = getattr(error, "reason", None) or error.strerror
        raise SettingError((*path, "certFile"), f"{tls.cert_file} cannot be used: {reason}") from None


@asynccontextmanager
async def listener_contexts(listeners: Sequence[Listener]) -> AsyncIterator[list[ssl.SSLContext | None]]:
    """The context of each listener, None where it is plain; changed files are loaded until the end of the block.

    Raises SettingError, which names the listener's setting, the file, and what is wrong.
    """
    contexts: list[ssl.SSLContext | None] = []
    background = Background()
    try:
        for number, listener in enumerate(listeners):
            if listener.tls is None:
                contexts.append(None)
                continue
            tls = ReloadingTls(listener.tls, listener.clients.auth, tls_path(number))
            await tls.load()
            background.start(tls.watch())
            contexts.append(tls.context)
        yield contexts
    finally:
        await background.close()


def tls_problems(contexts: Sequence[ssl.SSLContext | None]) -> tuple[str, ...]:
    """Why changed files of listeners are not in use, by the contexts that these were started with."""
    return tuple(context.problem for context in contexts if isinstance(context, _NewestContext) and context.problem)


def tls_path(number: int) -> KeyPath:
    """Where the TLS settings of a listener stand."""
    return ("listeners", number, "tls")


def verify_mode(auth: tuple[ClientAuth, ...]) -> ssl.VerifyMode:
    """Whether clients need a certificate, may show one, or are not asked."""
    if auth == ("certificate",):
        return ssl.CERT_REQUIRED
    return ssl.CERT_OPTIONAL if "certificate" in auth else ssl.CERT_NONE


def _context(tls: ListenerTls, verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # A key with a password would be asked for on the terminal.
    context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
    if verify is not ssl.CERT_NONE:
        verify_as_go(context).load_verify_locations(cafile=tls.client_ca_file)
        context.verify_mode = verify
        # Tickets renew themselves: they would let a client in long after its certificate has ended.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context
