"""Certificates that memop makes for itself. Run as a program it prints one, so that memop need not load cryptography.

python -m memop.webhooks.certificates NOW DAYS NAME…    (NOW in seconds since 1970)
"""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from memop.pem import CLOCK_SKEW, Certificate


def issue(names: Iterable[str], *, now: datetime, days: float) -> Certificate:
    """Make a certificate for DNS names and IP addresses, with a CA of its own.

    The CA's key is thrown away, so that it can sign nothing more.
    """
    start, end = now - CLOCK_SKEW, now + timedelta(days=days)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    # Two CAs of one name in a bundle must be told apart, which clients do by the name first.
    authority = _name(f"memop-ca-{x509.random_serial_number():x}"[:40])
    ca = (
        _builder(authority, authority, (ca_key, ca_key), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        _builder(_name("memop"), authority, (key, ca_key), start, end)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    return Certificate(leaf.public_bytes(pem).decode(), private.decode(), ca.public_bytes(pem).decode())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    keys: tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePrivateKey],
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    # Clients that verify strictly, as Python does since 3.13, ask for both identifiers.
    subject_id, issuer_id = (x509.SubjectKeyIdentifier.from_public_key(key.public_key()) for key in keys)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(keys[0].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(subject_id, critical=False)
        .add_extension(authority_id, critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


if __name__ == "__main__":
    seconds, lifetime, *hosts = sys.argv[1:]
    made = issue(hosts, now=datetime.fromtimestamp(float(seconds), UTC), days=float(lifetime))
    sys.stdout.buffer.write(msgspec.json.encode(made))
