"""What `memop doctor` knows of one thing: its JSON."""

from typing import Literal

import msgspec

Verdict = Literal["ok", "warning", "trouble", "unknown"]


class Finding(msgspec.Struct, frozen=True):
    """`verdict` on `subject` (`deployment memop-system/memop`), which the part `check` of the examination looked at.

    trouble: something does not work, and `remedy` says what to do. warning: it works, but. unknown: it could not be
    read, and `message` says why.
    """

    check: str
    verdict: Verdict
    subject: str
    message: str
    remedy: str = ""
