"""Kubernetes quantities: "64Mi", "1.5", "500m", "1e9"."""

import re
from decimal import Decimal
from typing import Any

MIB = 1 << 20

# Kubernetes' grammar within reason. The CRD's pattern, which is Kubernetes' own, lets 1e999999999 through, and with one
# of such numbers memop could be kept busy for minutes.
_GRAMMAR = re.compile(
    r"(?P<number>[-+]?([0-9]{1,99}(\.[0-9]{0,99})?|\.[0-9]{1,99}))"
    r"((?P<suffix>[numkMGTPE]|[KMGTPE]i)|(?P<exponent>[eE][-+]?[0-9]{1,3}))?"
)

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def quantity(value: Any) -> Decimal | None:
    """The exact number, in units (bytes, cores); None for what is no quantity."""
    found = _GRAMMAR.fullmatch(str(value))
    if found is None:
        return None
    return Decimal(found["number"] + (found["exponent"] or "")) * _SUFFIXES[found["suffix"] or ""]
