"""Certificates of a CA of one's own, and a memcached client that shows and checks them, and logs in as -Y demands."""

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.kubectl import Json

# What Python's default context demands of a CA.
_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Refused(Exception):
    """memcached, which had taken the connection, ended it instead of answering."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM, and the CA's certificate."""

    cert: str
    key: str
    ca: str

    def secret(self, name: str = "tls") -> Json:
        data = {"tls.crt": self.cert, "tls.key": self.key, "ca.crt": self.ca}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def users(line: str, name: str = "users") -> Json:
    """The Secret that -Y reads: `user:password`."""
    data = {"password-file": f"{line}\n"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


class Authority:
    """A CA; each is a stranger to all others."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(self._key, "CA of the tests", (), ca=True)
        self.pem = _pem(self._certificate)

    def issue(self, *names: str) -> Certificate:
        """For a server of these DNS names, or, without any, for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, "somebody", names, ca=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(_pem(certificate), private.decode(), self.pem)

    def trusted(self, shown: Certificate | None = None) -> ssl.SSLContext:
        """What a client that trusts this CA alone connects with; `shown` is the certificate of its own."""
        context = ssl.create_default_context(cadata=self.pem)
        if shown is not None:
            with tempfile.TemporaryDirectory() as directory:  # ssl loads from files only
                cert, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
                cert.write_text(shown.cert)
                key.write_text(shown.key)
                context.load_cert_chain(cert, key)
        return context

    def _sign(
        self, key: ec.EllipticCurvePrivateKey, subject: str, names: tuple[str, ...], *, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA of the tests")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if ca:
            builder = builder.add_extension(_SIGNS, critical=True)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Cache:
    """A memcached as one client reaches it; every call is a connection of its own.

    `trusted` makes it speak TLS, and `name` is the DNS name that the certificate must be for. `login` ("user
    password") is what it says first.

    Calls raise Refused; ssl.SSLCertVerificationError where it is the client that refuses; ConnectionRefusedError where
    nobody listens; TimeoutError.
    """

    address: str
    port: int = 11211
    trusted: ssl.SSLContext | None = None
    name: str = ""
    login: str = ""

    def set(self, key: str, value: str) -> str:
        """memcached's answer: STORED, or what it has against it."""
        return self._ask(_set(key, value))[0]

    def get(self, key: str) -> str:
        """The value, or the line that came instead: END where there is none."""
        first, *more = self._ask(f"get {key}\r\n")
        return more[0] if more else first

    def _ask(self, command: str) -> list[str]:
        """The answer's lines; to a login that is not accepted, that one."""
        with self._connection() as stream:
            if self.login and (verdict := _converse(stream, _set("auth", self.login))) != ["STORED"]:
                return verdict
            return _converse(stream, command)

    @contextmanager
    def _connection(self) -> Iterator[socket.SocketIO]:
        with socket.create_connection((self.address, self.port), timeout=5) as plain:
            try:
                if self.trusted is None:
                    yield plain.makefile("rwb", buffering=0)
                else:
                    with self.trusted.wrap_socket(plain, server_hostname=self.name) as encrypted:
                        yield encrypted.makefile("rwb", buffering=0)
            except ssl.SSLCertVerificationError:
                raise
            except (ssl.SSLError, ConnectionError) as error:
                raise Refused(f"{type(error).__name__}: {error}") from error


def _set(key: str, value: str) -> str:
    return f"set {key} 0 0 {len(value)}\r\n{value}\r\n"


def _converse(stream: socket.SocketIO, command: str) -> list[str]:
    stream.write(command.encode())
    lines = [_line(stream)]
    while lines[0].startswith("VALUE ") and lines[-1] != "END":
        lines.append(_line(stream))
    return lines[:1] if len(lines) == 1 else lines[:-1]


def _line(stream: socket.SocketIO) -> str:
    line = stream.readline().decode()
    if not line.endswith("\r\n"):
        raise ConnectionResetError(f"closed after {line!r}")
    return line.rstrip()
