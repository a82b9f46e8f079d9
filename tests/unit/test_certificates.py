"""The certificates that memop makes for itself, checked by the library that made them and by OpenSSL."""

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from memop.certificates import make
from memop.errors import ConfigurationError
from memop.pem import Certificate, authorities, bundle, distrusted, server_context, validity
from memop.webhooks.certificates import issue

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_certificate_names_hosts_and_addresses_and_is_signed_by_a_ca_of_its_own() -> None:
    made = issue(["memop.ns.svc", "10.0.0.1", "fd00::1"], now=NOW, days=90)
    leaf, ca = (x509.load_pem_x509_certificate(pem.encode()) for pem in (made.cert, made.ca))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["memop.ns.svc"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.1"), ip_address("fd00::1")]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    leaf.verify_directly_issued_by(ca)
    for one in (leaf, ca):
        assert (one.not_valid_before_utc, one.not_valid_after_utc) == (NOW - HOUR, NOW + timedelta(days=90))


def test_openssl_trusts_it_under_its_names_alone() -> None:
    made, other = (issue(["a.example"], now=datetime.now(UTC), days=1) for _ in range(2))
    assert distrusted(made, "a.example") is None
    assert "Hostname mismatch" in (distrusted(made, "b.example") or "")
    assert "verify failed" in (distrusted(Certificate(made.cert, made.key, other.ca), "a.example") or "")
    assert distrusted(Certificate(made.cert, other.key, made.ca), "a.example")
    assert distrusted(Certificate(made.cert, made.key), "a.example")


def test_what_is_read_of_a_certificate_is_what_was_asked_for() -> None:
    made = issue(["a"], now=NOW, days=90)
    assert validity(made) == (NOW - HOUR, NOW + timedelta(days=90))
    assert [ca.not_after for ca in authorities(made.ca)] == [NOW + timedelta(days=90)]
    # A leaf from files, of which no CA is known.
    assert validity(Certificate(made.cert + made.ca, made.key)) == validity(made)


def test_a_bundle_is_read_part_by_part() -> None:
    one, two = (issue(["a"], now=NOW, days=1) for _ in range(2))
    spoiled = one.ca + "rubbish\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + two.ca + one.cert
    found = authorities(spoiled)
    assert bundle(found) == one.ca + two.ca
    assert bundle([*found, *found]) == one.ca + two.ca


@given(st.text(max_size=40) | st.just("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
def test_garbage_is_no_certificate(text: str) -> None:
    assert authorities(text) == ()
    for function in (server_context, validity):
        with pytest.raises(ConfigurationError):
            function(Certificate(text, text, text))


def test_one_is_made_in_a_process_of_its_own_so_that_cryptography_is_not_loaded() -> None:
    code = (
        "import sys; from datetime import *; import memop.app; from memop.certificates import make;"
        "made = make(['a.example'], datetime.now(UTC), 1); print('cryptography' in sys.modules, made.ca == made.cert)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert distrusted(make([socket.gethostname()], NOW, 1), socket.gethostname()) is None


def test_a_failure_to_make_one_is_told() -> None:
    with pytest.raises(ConfigurationError, match="no certificate could be made: "):
        make(["a"], NOW, -1)


def test_a_key_does_not_show_in_a_repr() -> None:
    assert "PRIVATE" not in repr(issue(["a"], now=NOW, days=1))
