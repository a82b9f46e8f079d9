"""memcached's command line, read as memcached reads it: getopt_long over the option string of 1.6 (memcached.c)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

SHORT = "a:AZp:s:U:m:Mc:khiVrvdl:u:P:f:n:t:D:LR:Cb:B:I:SFXWY:e:o:N:"
LONG = {
    "unix-mask": "a",
    "enable-shutdown": "A",
    "enable-ssl": "Z",
    "port": "p",
    "unix-socket": "s",
    "udp-port": "U",
    "memory-limit": "m",
    "disable-evictions": "M",
    "conn-limit": "c",
    "lock-memory": "k",
    "help": "h",
    "license": "i",
    "version": "V",
    "enable-coredumps": "r",
    "verbose": "v",
    "daemon": "d",
    "listen": "l",
    "user": "u",
    "pidfile": "P",
    "slab-growth-factor": "f",
    "slab-min-size": "n",
    "threads": "t",
    "enable-largepages": "L",
    "max-reqs-per-event": "R",
    "disable-cas": "C",
    "listen-backlog": "b",
    "protocol": "B",
    "max-item-size": "I",
    "enable-sasl": "S",
    "disable-flush-all": "F",
    "disable-dumping": "X",
    "disable-watch": "W",
    "auth-file": "Y",
    "memory-file": "e",
    "extended": "o",
    "napi-ids": "N",
}
WITH_VALUE = frozenset(letter for letter, next_ in pairwise(SHORT) if next_ == ":")
_KNOWN = frozenset(SHORT) - {":"}


class Flag(NamedTuple):
    """One flag: the argument it begins in, its letter ("" where memcached knows none) and its value (None: none)."""

    at: int
    letter: str
    value: str | None


def flags(arguments: Sequence[str]) -> Iterator[Flag]:
    """Every flag, in order: `-m 64`, `-m64`, `-vm64`, `--memory-limit=64`, `--memory-l 64`.

    An abbreviation that could mean several flags yields each: another version of memcached may take it for one of them.
    """
    rest = iter(enumerate(arguments))
    for index, argument in rest:
        if argument == "--":
            return
        if argument.startswith("--"):
            name, equals, glued = argument[2:].partition("=")
            meant = [LONG[name]] if name in LONG else [LONG[long] for long in LONG if long.startswith(name)]
            if not meant:
                yield Flag(index, "", None)
            for letter in meant:
                value = glued if equals else None
                if not equals and len(meant) == 1 and letter in WITH_VALUE:
                    value = next(rest, (0, None))[1]
                yield Flag(index, letter, value)
            continue
        for place, letter in enumerate(argument[1:] if argument.startswith("-") else "", start=2):
            if letter in WITH_VALUE:
                yield Flag(index, letter, argument[place:] or next(rest, (0, None))[1])
                break
            yield Flag(index, letter if letter in _KNOWN else "", None)


def suboptions(value: str) -> list[str]:
    """The names in the comma list that `-o` takes."""
    return [part.partition("=")[0] for part in value.split(",")]
