"""The certificates that memop makes for itself, checked by the library that made them and by OpenSSL."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from memop.webhooks.certificates import self_signed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_self_signed_certificate_names_hosts_and_addresses_and_is_its_own_ca() -> None:
    pair = self_signed(["memop.ns.svc", "10.0.0.1", "fd00::1"], now=NOW, days=90)
    certificate = x509.load_pem_x509_certificate(pair.cert_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["memop.ns.svc"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.1"), ip_address("fd00::1")]
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc == NOW + timedelta(days=90)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate.verify_directly_issued_by(certificate)


def test_openssl_takes_the_pair_and_trusts_it_strictly_as_a_ca(tmp_path: Path) -> None:
    pair = self_signed(["a.example"], now=datetime.now(UTC), days=1)
    (tmp_path / "crt").write_bytes(pair.cert_pem)
    (tmp_path / "key").write_bytes(pair.key_pem)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tmp_path / "crt", tmp_path / "key")
    client = ssl.create_default_context(cadata=pair.cert_pem.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname="a.example")
    theirs = server.wrap_bio(up, down, server_side=True)
    done = set[ssl.SSLObject]()
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
            done.add(side)
        except ssl.SSLWantReadError:
            continue
    assert done == {ours, theirs}


def test_a_key_does_not_show_in_a_repr() -> None:
    pair = self_signed(["a"], now=NOW, days=1)
    assert "PRIVATE" not in repr(pair)
