"""The kinds of value that tags and compute()'s arguments hold: reading, writing, remedies.

A kind reads two spellings: what a person gives to ``compute`` (``8GiB``, ``'5m'``) and what
stands in the tag (``8.589934592``, ``300``). What a kind writes it reads back unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Any

from cu_market.domain.units import (
    MIB,
    MILLIS,
    TooLargeError,
    bytes_to_gb,
    gb_to_bytes,
    microusd_to_usd,
    millis_to_cores,
    parse_cores,
    parse_decimal,
    parse_size,
    usd_to_microusd,
)

LARGEST_ASKED_EXPONENT = 15
"""Nothing that a tag asks for comes in more than 10^15; other numbers may be larger."""

LEAST_CONFIDENCE_PERMILLE, MOST_CONFIDENCE_PERMILLE = 500, 990
"""Below, a deadline would be planned to be missed; above, forecasts of few attempts say nothing."""

_MS = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"^\s*([0-9.eE+-]+?)\s*(ms|s|min|m|h|d|)\s*$")
_NUMBER = re.compile(r"^\s*([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_./:@ -]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueKind:
    """How one kind of value is read and written.

    Attributes:
        read_argument: reads what compute() takes; raises ValueError with what is wrong.
        read_tag: reads what stands in a tag; raises ValueError with what is wrong.
        write: writes the tag; read_tag reads it back exactly.
        argument_remedy: what to give instead.
        tag_remedy: what to write instead.
    """

    read_argument: Callable[[object], Any]
    read_tag: Callable[[object], Any]
    write: Callable[[Any], str]
    argument_remedy: str
    tag_remedy: str


def plain(value: Decimal) -> str:
    """Returns a decimal without exponent or trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def check_magnitude(written: object) -> None:
    """Raises ValueError for booleans and for numbers that no resource can have."""
    if isinstance(written, bool):
        raise ValueError("not a number")
    match = _NUMBER.match(str(written))
    if match is None:
        return
    try:
        number = parse_decimal(match.group(1))
    except TooLargeError:
        raise
    except ValueError:
        return
    if number and number.adjusted() > LARGEST_ASKED_EXPONENT:
        raise TooLargeError("more than anything could have")


def _positive(written: object) -> Decimal:
    check_magnitude(written)
    value = parse_decimal(written)
    if value <= 0:
        raise ValueError("negative" if value < 0 else "zero")
    return value


def _explain_sign(written: object) -> None:
    """Raises ValueError saying negative or zero, where that is what is wrong."""
    check_magnitude(written)
    match = _NUMBER.match(str(written))
    if match:
        try:
            number = parse_decimal(match.group(1))
        except ValueError:
            return
        if number <= 0:
            raise ValueError("negative" if number < 0 else "zero")


def read_cores(written: object) -> int:
    """Returns milli-cores; raises ValueError."""
    _explain_sign(written)
    return parse_cores(written)


def _enough_memory(size: int) -> int:
    if size < MIB:
        raise ValueError("less than 1 MiB")
    return size


def read_size(written: object) -> int:
    """Returns bytes from ``8GiB``, ``512MB`` or a count of bytes; raises ValueError."""
    if str(written).strip().lower() in ("nan", "inf", "-inf", "infinity", "-infinity"):
        raise ValueError("not a finite number")
    _explain_sign(written)
    return _enough_memory(parse_size(written))


def read_memory_gb(written: object) -> int:
    """Returns bytes from decimal gigabytes, or from a size with its unit; raises ValueError."""
    if str(written).strip()[-1:].isalpha() and any(c.isdigit() for c in str(written)):
        return read_size(written)
    _positive(written)
    return _enough_memory(gb_to_bytes(written))


def read_duration(written: object) -> int:
    """Returns milliseconds from seconds or ``90s``, ``5m``, ``2h``, ``1d``; raises ValueError."""
    match = _DURATION.match(str(written))
    if match is None:
        parse_decimal(written)
        raise ValueError("not a duration")
    duration_ms = _positive(match.group(1)) * _MS[match.group(2)]
    return int(duration_ms.to_integral_value(rounding=ROUND_CEILING))


def read_money(written: object) -> int:
    """Returns micro-dollars above zero; raises ValueError."""
    _positive(str(written).strip().removeprefix("$") if isinstance(written, str) else written)
    microusd = usd_to_microusd(str(written).strip().removeprefix("$"))
    if microusd == 0:
        raise ValueError("less than a micro-dollar")
    return microusd


def read_money_or_zero(written: object) -> int:
    """Returns micro-dollars of at least zero; raises ValueError."""
    check_magnitude(written)
    return 0 if parse_decimal(written) == 0 else read_money(written)


def read_whole(written: object) -> int:
    """Returns a whole number, of either sign; raises ValueError."""
    check_magnitude(written)
    value = parse_decimal(written)
    if value != value.to_integral_value():
        raise ValueError("not a whole number")
    return int(value)


def read_count(written: object) -> int:
    """Returns a whole number above zero; raises ValueError."""
    _positive(written)
    return read_whole(written)


def read_confidence(written: object) -> int:
    """Returns thousandths from a share of 0.5 to 0.99; raises ValueError."""
    check_magnitude(written)
    permille = parse_decimal(written) * MILLIS
    if permille < LEAST_CONFIDENCE_PERMILLE:
        raise ValueError("less than 0.5")
    if permille > MOST_CONFIDENCE_PERMILLE:
        raise ValueError("more than 0.99")
    if permille != permille.to_integral_value():
        raise ValueError("finer than a thousandth")
    return int(permille)


def read_name(written: object) -> str:
    """Returns a name; raises ValueError."""
    name = str(written).strip()
    if not isinstance(written, str) or not _NAME.match(name):
        raise ValueError("not a name" if name else "empty")
    return name


def read_names(written: object) -> tuple[str, ...]:
    """Returns names from one string (``a,b`` or ``a|b``) or several; raises ValueError."""
    if isinstance(written, str):
        parts: Iterable[object] = re.split(r"[,|]", written)
    elif isinstance(written, (tuple, list, set, frozenset)):
        parts = sorted(written) if isinstance(written, (set, frozenset)) else written
    else:
        raise ValueError("not a name")
    names = tuple(dict.fromkeys(read_name(part) for part in parts))
    if not names:
        raise ValueError("empty")
    return names


def read_flag(written: object) -> bool:
    """Returns a truth value from true or false; raises ValueError."""
    text = str(written).strip().lower()
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def choice(options: type[StrEnum]) -> ValueKind:
    """Returns the kind that reads one of an enumeration's values."""
    names = ", ".join(option.value for option in options)

    def read(written: object) -> StrEnum:
        try:
            return options(str(written).strip().lower())
        except ValueError:
            raise ValueError(f"not one of {names}") from None

    remedy = f"write one of {names}"
    return ValueKind(
        read_argument=read, read_tag=read, write=str, argument_remedy=remedy, tag_remedy=remedy
    )


def _same(read: Callable[[object], Any], write: Callable[[Any], str], remedy: str) -> ValueKind:
    return ValueKind(
        read_argument=read, read_tag=read, write=write, argument_remedy=remedy, tag_remedy=remedy
    )


CORES = _same(
    read_cores, lambda v: plain(millis_to_cores(v)), "write cores above 0, such as 2 or 0.5"
)
MEMORY = ValueKind(
    read_argument=read_size,
    read_tag=read_memory_gb,
    write=lambda v: plain(bytes_to_gb(v)),
    argument_remedy="write 8GiB or 8GB",
    tag_remedy="write gigabytes of 10^9 bytes, such as 8, or a size, such as 8GiB or 8GB",
)
DURATION = _same(
    read_duration, lambda v: plain(Decimal(v) / MILLIS), "write seconds, or 90s, 5m, 2h"
)
MONEY = _same(
    read_money, lambda v: plain(microusd_to_usd(v)), "write dollars above 0, such as 0.50"
)
MONEY_OR_ZERO = _same(
    read_money_or_zero, lambda v: plain(microusd_to_usd(v)), "write dollars of at least 0"
)
COUNT = _same(read_count, str, "write a whole number above 0, or leave it out")
WHOLE = _same(read_whole, str, "write a whole number")
CONFIDENCE = _same(
    read_confidence, lambda v: plain(Decimal(v) / MILLIS), "write a share from 0.5 to 0.99"
)
NAME = _same(read_name, str, "write a name of letters, digits and _./:@-")
NAMES = _same(read_names, ",".join, "write names separated by commas")
FLAG = _same(read_flag, lambda v: "true" if v else "false", "write true or false")
