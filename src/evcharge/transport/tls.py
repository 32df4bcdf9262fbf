"""TLS for a link: contexts from PEM files, and one end of a connection, which never touches a socket."""

import ssl
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import cast

from evcharge.errors import BadJson, TlsFailed, TlsRequired, TlsUnusable, UsageError
from evcharge.protocol import messages
from evcharge.protocol.messages import ErrorResponse, Undecodable

READ_BYTES = 64 * 1024
TLS_RECORDS = (0x15, 0x16)
"""What may come first: an alert, or a handshake."""

NO_TLS_FROM_CLIENT = "this port speaks TLS; connect with TLS (a Monitor: --tls-ca)"

_REASONS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is refused",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a certificate of ours (--tls-cert)",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust who has signed our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate, which has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it agrees to nothing; perhaps it requires a certificate (--tls-cert)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it wants another version of TLS; ours are 1.2 and 1.3",
    "UNSUPPORTED_PROTOCOL": "it wants another version of TLS; ours are 1.2 and 1.3",
}


def server_context(
    cert: Path | None, key: Path | None, client_ca: Path | None = None, options: str = "--tls"
) -> ssl.SSLContext | None:
    """Shows `cert`; with `client_ca`, admits only who shows a certificate that it has signed. None: no TLS.

    `options` is how those begin that name the files.
    """
    _check_pair(cert, key, options)
    if cert is None or key is None:
        if client_ca is not None:
            raise UsageError(
                "--tls-client-ca needs --tls-cert and --tls-key: client certificates are a part of TLS"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _show(context, cert, key, options)
    if client_ca is not None:
        _trust(context, "--tls-client-ca", client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return _hardened(context)


def client_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Trusts servers that `ca` has signed, under their own name; shows `cert` if there is one. None: no TLS."""
    _check_pair(cert, key)
    if ca is None:
        if cert is not None:
            raise UsageError("--tls-cert needs --tls-ca: who has signed Central's certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, "--tls-ca", ca)
    if cert is not None and key is not None:
        _show(context, cert, key)
    return _hardened(context)


def _check_pair(cert: Path | None, key: Path | None, options: str = "--tls") -> None:
    if (cert is None) != (key is None):
        raise UsageError(f"{options}-cert and {options}-key go together: give both, or neither")


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _trust(context: ssl.SSLContext, option: str, ca: Path) -> None:
    try:
        with _pem(option, ca, b"CERTIFICATE-----", "certificate") as path:
            context.load_verify_locations(path)
    except ssl.SSLError as problem:
        raise TlsUnusable(f"{option} {ca} holds no certificate that can be read: {_reason(problem)}") from None


def _show(context: ssl.SSLContext, cert: Path, key: Path, options: str = "--tls") -> None:
    def no_password() -> str:  # without it, OpenSSL would ask the terminal
        raise TlsUnusable(
            f"{options}-key {key} is encrypted; give one without a passphrase, readable for us alone"
        )

    try:
        with (
            _pem(f"{options}-cert", cert, b"CERTIFICATE-----", "certificate") as cert_path,
            _pem(f"{options}-key", key, b"PRIVATE KEY-----", "private key") as key_path,
        ):
            context.load_cert_chain(cert_path, key_path, no_password)
    except ssl.SSLError as problem:
        if problem.reason == "KEY_VALUES_MISMATCH":
            raise TlsUnusable(f"{options}-key {key} is not the key of {options}-cert {cert}") from None
        raise TlsUnusable(
            f"{options}-cert {cert} and {options}-key {key} cannot be used: {_reason(problem)}"
        ) from None


@contextmanager
def _pem(option: str, path: Path, mark: bytes, what: str) -> Iterator[Path]:
    """Where OpenSSL can read it: it would not know a first line that begins with a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise TlsUnusable(f"{option} {path} cannot be read: {problem.strerror}") from None
    if mark not in content:
        raise TlsUnusable(f"{option} {path} holds no {what} in PEM format")
    if not content.startswith(BOM_UTF8):
        yield path
        return
    with NamedTemporaryFile() as copy:  # readable for us alone
        copy.write(content.removeprefix(BOM_UTF8))
        copy.flush()
        yield Path(copy.name)


def _reason(problem: ssl.SSLError) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"{_REASONS['CERTIFICATE_VERIFY_FAILED']}: {problem.verify_message.rstrip('.')}"
    code = problem.reason or type(problem).__name__
    return _REASONS.get(code, code.lower().replace("_", " "))


def _without_tls(data: bytes) -> str:
    """A server that answers without TLS; as a rule it says why."""
    with suppress(Undecodable, BadJson):
        message = messages.decode(data.partition(b"\n")[0])
        if isinstance(message, ErrorResponse):
            return f"it answers without TLS: {message.reason}"
    return "it answers without TLS"


class TlsEnd:
    """Bytes of the wire in, plain ones out, and back. After each call, `to_send` has what the peer must get."""

    __slots__ = ("_heard", "_incoming", "_outgoing", "_ssl", "ended", "established")

    def __init__(self, context: ssl.SSLContext, host: str | None) -> None:
        """Of a client, whose server must be `host`; of a server if that is None."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, host is None, host)
        self._heard = self.established = self.ended = False
        if host is not None:
            self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """What the peer has said. Raises `TlsRequired` if a client speaks no TLS, `TlsFailed` for the rest."""
        if not self._heard and data:
            self._heard = True
            if data[0] not in TLS_RECORDS:
                raise TlsRequired(NO_TLS_FROM_CLIENT) if self._ssl.server_side else TlsFailed(_without_tls(data))
        self._incoming.write(data)
        if not self.established:
            self._shake_hands()
        return self._read() if self.established else b""

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as problem:
            raise TlsFailed(f"no TLS: {_reason(problem)}") from None
        self.established = True

    def _read(self) -> bytes:
        pieces = []
        try:
            while piece := self._ssl.read(READ_BYTES):
                pieces.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as problem:
            raise TlsFailed(f"TLS has failed: {_reason(problem)}") from None
        return b"".join(pieces)

    def encrypt(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._ssl.write(view) :]
        return self.to_send()

    def to_send(self) -> bytes:
        return self._outgoing.read()

    def end(self) -> bytes:
        """The last that the peer gets: that nothing was cut off."""
        with suppress(ssl.SSLError):  # It has not said the same yet, or there was no handshake.
            self._ssl.unwrap()
        return self.to_send()

    def peer_name(self) -> str | None:
        """The CN of the certificate that was verified; "" if it has not exactly one, None if there is none."""
        certificate = self._ssl.getpeercert()
        if not certificate:
            return None
        subject = cast(tuple[tuple[tuple[str, str], ...], ...], certificate["subject"])
        names = [value for part in subject for name, value in part if name == "commonName"]
        return names[0] if len(names) == 1 else ""
