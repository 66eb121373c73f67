"""TLS of listeners: checks their certificates, and reloads them when the files change."""

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
"""Maximum bytes of a certificate or key file."""
EXPIRY_WARNING = timedelta(days=30)
"""How long before its expiry a certificate causes a warning."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate that matches its key."""

    file: str
    expires: datetime

    @property
    def is_expired(self) -> bool:
        """Whether the certificate has expired."""
        return self.expires <= datetime.now(UTC)

    @property
    def warning(self) -> str | None:
        """A message for the operator if the certificate has expired or expires soon."""
        if self.is_expired:
            return f"the certificate in {self.file} expired on {self.expires:%Y-%m-%d}: clients refuse it, renew it"
        if self.expires - datetime.now(UTC) < EXPIRY_WARNING:
            return f"the certificate in {self.file} expires on {self.expires:%Y-%m-%d}: renew it"
        return None


def check_certificate(tls: ListenerTls, path: KeyPath) -> ServerCertificate:
    """The certificate of a listener; checks that certificate, key and CA file can be used together.

    Raises SettingError for a setting below `path`; it names the file and quotes nothing of its content.
    """
    from proxy.server.listener import pem  # noqa: PLC0415 - imports a library that plain listeners do not need

    where = (*path, "certFile")
    data = _read(tls.cert_file, where)
    try:
        certificate = pem.first_certificate(data)
    except ValueError:
        raise SettingError(where, f"{tls.cert_file} contains no valid PEM certificate") from None
    where = (*path, "keyFile")
    data = _read(tls.key_file, where)
    try:
        matches = pem.is_key_of(certificate, data)
    except TypeError:
        raise SettingError(where, f"{tls.key_file} is encrypted: store the key without a password") from None
    except ValueError:
        raise SettingError(where, f"{tls.key_file} contains no valid PEM private key") from None
    if not matches:
        raise SettingError(where, f"{tls.key_file} is not the key of the first certificate in {tls.cert_file}")
    if tls.client_ca_file is not None:
        _check_ca_file(tls.client_ca_file, (*path, "clientCaFile"))
    return ServerCertificate(tls.cert_file, certificate.not_valid_after_utc)


def _check_ca_file(file: str, path: KeyPath) -> None:
    _read(file, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file)
    except OSError:
        raise SettingError(path, f"{file} contains no valid PEM certificates") from None


def _read(file: str, path: KeyPath) -> bytes:
    try:
        data, _ = read_bounded(file, PEM_LIMIT)
    except OSError as error:
        raise SettingError(path, f"cannot read {file}: {error.strerror}") from None
    if data is None or len(data) > PEM_LIMIT:
        raise SettingError(path, f"{file} is larger than {PEM_LIMIT >> 20} MiB: not a PEM file")
    return data


RELOAD_SECONDS = 5.0
"""Seconds between two checks of the files for changes."""

_FileStates = tuple[FileState | None, ...]

_logger = logging.getLogger(__name__)


class _NewestContext(ssl.SSLContext):
    """The context that a listener starts with: each new connection uses the context that was loaded last.

    A context in use cannot be replaced: CAs can be added to it but not removed, and it resumes sessions of clients
    whose CA was removed (`sni_callback` changes neither that nor the verify mode).
    """

    newest: ssl.SSLContext
    problem: str = ""
    """Why changed files are not in use; empty if they are."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT002 - the signature of ssl.SSLContext
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Called by asyncio for each connection."""
        return self.newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class ReloadingTls:
    """The TLS of one listener; open connections keep their certificate."""

    def __init__(self, tls: ListenerTls, auth: tuple[ClientAuth, ...], path: KeyPath) -> None:
        self._context = _NewestContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls = tls
        self._auth = auth
        self._path = path
        self._setting = setting_name(path)
        self._states: _FileStates = ()

    @property
    def context(self) -> ssl.SSLContext:
        """The context to start the listener with, after `load`."""
        return self._context

    async def load(self) -> None:
        """Load the files; if one is invalid, keeps the loaded ones and raises ValueError that names it."""
        self._states = await asyncio.to_thread(
            self._current_states
        )  # before reading: a later change is detected next time
        newest, certificate = await asyncio.to_thread(build_context, self._tls, self._auth, self._path)
        self._context.newest, self._context.problem = newest, ""
        TLS_NOT_AFTER.labels(self._setting).set(certificate.expires.timestamp())
        if certificate.warning is not None:
            _logger.warning("%s.certFile: %s", self._setting, certificate.warning)

    async def watch(self, interval: float) -> None:
        """Load the files whenever they change, checked every `interval` seconds; logs each failure once."""
        while True:
            await asyncio.sleep(interval)
            try:
                if await asyncio.to_thread(self._current_states) != self._states:
                    await self.load()
                    _logger.info("%s: changed files loaded, new connections use them", self._setting)
            except ValueError as error:
                self._context.problem = str(error)
                _logger.warning("%s; the previous files stay in use", error)
            except Exception:
                _logger.exception("a bug: cannot load the files of %s", self._setting)

    def _current_states(self) -> _FileStates:
        files = (self._tls.cert_file, self._tls.key_file, self._tls.client_ca_file)
        return tuple(state_of(file) for file in files if file is not None)


def build_context(
    tls: ListenerTls, auth: tuple[ClientAuth, ...], path: KeyPath
) -> tuple[ssl.SSLContext, ServerCertificate]:
    """The TLS context of a listener and its certificate; blocks. Raises SettingError."""
    certificate = check_certificate(tls, path)
    try:
        return _context(tls, verify_mode(auth)), certificate
    except OSError as error:  # includes ssl.SSLError
        reason = getattr(error, "reason", None) or error.strerror
        raise SettingError((*path, "certFile"), f"cannot use {tls.cert_file}: {reason}") from None


@asynccontextmanager
async def listener_contexts(
    listeners: Sequence[Listener], *, interval: float = RELOAD_SECONDS
) -> AsyncIterator[list[ssl.SSLContext | None]]:
    """The TLS context of each listener, None for plain HTTP; reloads changed files until the end of the block.

    The files are checked every `interval` seconds. Raises SettingError that names setting, file and problem.
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
            background.start(tls.watch(interval))
            contexts.append(tls.context)
        yield contexts
    finally:
        await background.close()


def tls_problems(contexts: Sequence[ssl.SSLContext | None]) -> tuple[str, ...]:
    """Why changed files of listeners are not in use, from the contexts of `listener_contexts`."""
    return tuple(context.problem for context in contexts if isinstance(context, _NewestContext) and context.problem)


def tls_path(number: int) -> KeyPath:
    """The path of a listener's TLS settings in the configuration."""
    return ("listeners", number, "tls")


def verify_mode(auth: tuple[ClientAuth, ...]) -> ssl.VerifyMode:
    """Whether a client certificate is required, optional, or not requested."""
    if auth == ("certificate",):
        return ssl.CERT_REQUIRED
    return ssl.CERT_OPTIONAL if "certificate" in auth else ssl.CERT_NONE


def _context(tls: ListenerTls, verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # Without a callback, OpenSSL prompts for the password of a key on the terminal.
    context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
    if verify is not ssl.CERT_NONE:
        verify_as_go(context).load_verify_locations(cafile=tls.client_ca_file)
        context.verify_mode = verify
        # Session tickets would admit a client after its certificate has expired.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context
