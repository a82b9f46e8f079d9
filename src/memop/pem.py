"""Certificates read by what Python has: cryptography, which costs 9 MiB once imported, is for making them alone."""

import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from memop.errors import ConfigurationError

CLOCK_SKEW = timedelta(hours=1)  # by which memop's own certificates begin before they are made

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME: callers judge by their own clock
_NO_PEM = (ssl.SSLError, ValueError, TypeError)  # TypeError: of text that is not ASCII
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain, its private key and the CAs to trust it by, all PEM."""

    cert: str
    key: str = field(repr=False)
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate, PEM, and when it ends."""

    pem: str
    not_after: datetime


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """What to serve with. Raises: ConfigurationError when chain and key are none or do not fit."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as directory:  # ssl loads from files only; mode 0700
        cert, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        try:
            cert.write_text(certificate.cert)
            key.write_text(certificate.key)
            context.load_cert_chain(cert, key)
        except _NO_PEM as error:
            raise ConfigurationError(f"certificate and key do not fit: {error}") from error
    return context


@lru_cache(maxsize=8)  # it and those below: asked every minute, of what changes twice a year
def authorities(pem: str) -> tuple[Authority, ...]:
    """The CA certificates in a bundle; what is none is passed over."""
    found: list[Authority] = []
    for part in pem.split(_END)[:-1]:
        one = part[part.find("-----BEGIN") :] + _END + "\n"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=one)
        except _NO_PEM:
            continue
        found += [Authority(one, _moment(told["notAfter"])) for told in context.get_ca_certs()]
    return tuple(found)


def bundle(cas: Iterable[Authority]) -> str:
    return "".join(dict.fromkeys(ca.pem for ca in cas))


@lru_cache(maxsize=8)
def distrusted(certificate: Certificate, name: str) -> str | None:
    """Why a client that trusts its CAs would not connect to `name` served with it; None when it would.

    A handshake in memory tells, so that OpenSSL is the judge; dates are not looked at.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= _NO_CHECK_TIME
    try:
        client.load_verify_locations(cadata=certificate.ca)
        _handshake(client, server_context(certificate), name)
    except (*_NO_PEM, ConfigurationError) as error:
        return str(error)
    return None


@lru_cache(maxsize=8)
def validity(certificate: Certificate) -> tuple[datetime, datetime]:
    """From when to when the first certificate of the chain is valid. Raises: ConfigurationError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # It is made its own trust anchor: Python tells the fields of a certificate that is trusted, and of no other.
    client.verify_flags |= _NO_CHECK_TIME | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=certificate.cert.partition(_END)[0] + _END + "\n")
        told = _handshake(client, server_context(certificate), None).getpeercert()
    except _NO_PEM as error:
        raise ConfigurationError(f"not a certificate: {error}") from error
    if not told:
        raise ConfigurationError("not a certificate")
    return _moment(told["notBefore"]), _moment(told["notAfter"])


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(3):  # TLS 1.3 takes one round trip, 1.2 two
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours


def _moment(told: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(told)), UTC)
