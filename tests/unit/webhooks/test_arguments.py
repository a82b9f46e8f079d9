"""memcached's flags are read as the C library reads them."""

import ctypes
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memop.webhooks.arguments import LONG, SHORT, WITH_VALUE, Flag, flags, suboptions


class Option(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("has_arg", ctypes.c_int),
        ("flag", ctypes.c_void_p),
        ("val", ctypes.c_int),
    )


def by_libc(arguments: list[str]) -> list[tuple[str, str | None]]:
    """Letter and value of each flag, by getopt_long; it stops where memcached would end."""
    libc = ctypes.CDLL(None)
    table = [
        Option(name.encode(), 2 if letter == "v" else int(letter in WITH_VALUE), None, ord(letter))
        for name, letter in LONG.items()
    ]
    options = (Option * (len(table) + 1))(*table)
    argv = (ctypes.c_char_p * (len(arguments) + 2))(b"memcached", *(a.encode() for a in arguments))
    ctypes.c_int.in_dll(libc, "optind").value = 0
    ctypes.c_int.in_dll(libc, "opterr").value = 0
    found: list[tuple[str, str | None]] = []
    while (code := libc.getopt_long(len(arguments) + 1, argv, SHORT.encode(), options, None)) != -1:
        if code == ord("?"):
            return [*found, ("", None)]
        value = ctypes.c_char_p.in_dll(libc, "optarg").value
        found.append((chr(code), None if value is None else value.decode()))
    return found


WORDS = st.sampled_from(
    [
        *(
            "-m",
            "64",
            "-m64",
            "-vm",
            "-vvm64",
            "-",
            "--",
            "-o",
            "ssl_key=x",
            "-ossl_key=x",
            "-MFk",
            "-l::",
            "x",
            "",
            "-W",
        ),
        *("--memory-limit=64", "--memory-limit", "--memory-l=1", "--listen", "--threads", "--verbose", "-Y", "-d"),
        *("--verbose=2", "--daemon", "--help", "-hV"),
    ]
) | st.text("-mvoldMFkn=1", min_size=1, max_size=5).filter(lambda word: not word.startswith("--"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the C library of Linux")
@given(st.lists(WORDS, max_size=6))
def test_flags_are_what_getopt_finds(arguments: list[str]) -> None:
    expected = by_libc(arguments)
    ours = [(flag.letter, flag.value) for flag in flags(arguments)]
    if expected and expected[-1] == ("", None):  # memcached ends there; a missing value shows as None here
        assert ours[: len(expected) - 1] == expected[:-1]
        assert ours[len(expected) - 1][1] is None
    else:
        assert ours == expected


def test_an_abbreviation_is_all_that_it_could_mean() -> None:
    assert [flag.letter for flag in flags(["--mem=1"])] == ["m", "e"]
    assert list(flags(["--nothing"])) == [Flag(0, "", None)]


def test_a_comma_list_is_taken_apart() -> None:
    assert suboptions("modern,ssl_key=a=b,,no_x") == ["modern", "ssl_key", "", "no_x"]
