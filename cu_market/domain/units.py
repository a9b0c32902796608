"""Exact conversions between what people write and the integers kept inside.

Inside: cores are milli-cores, memory and storage are bytes, money is micro-dollars, time is
milliseconds. GB is 10^9 bytes and GiB is 2^30 bytes, everywhere.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

GB = 10**9
GIB = 2**30
MIB = 2**20
MICROUSD = 10**6
MILLIS = 1000
MS_PER_HOUR = 3_600_000

_SUFFIX = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "m": 10**6,
    "mb": 10**6,
    "g": 10**9,
    "gb": 10**9,
    "t": 10**12,
    "tb": 10**12,
    "ki": 2**10,
    "kib": 2**10,
    "mi": 2**20,
    "mib": 2**20,
    "gi": 2**30,
    "gib": 2**30,
    "ti": 2**40,
    "tib": 2**40,
}
# Far beyond anything that a machine has or costs, and still quick to reckon with exactly.
LARGEST_EXPONENT = 24
_SIZE = re.compile(r"^\s*([0-9.eE+-]+?)\s*([A-Za-z]*)\s*$")


class TooLargeError(ValueError):
    """A number beyond 10^25 either way: no resource has so much, and its digits fill memory."""


def parse_decimal(text: object) -> Decimal:
    """Returns a finite decimal read from a string or number.

    Raises:
        ValueError: not a number, NaN, infinite, or (TooLargeError) more than anything could have.
    """
    try:
        value = Decimal(str(text).strip())
    except InvalidOperation as error:
        raise ValueError("not a number") from error
    if not value.is_finite():
        raise ValueError("not a finite number")
    if value and value.adjusted() > LARGEST_EXPONENT:
        raise TooLargeError("more than anything could have")
    return value


def parse_size(text: object) -> int:
    """Returns bytes read from a size such as ``8GiB``, ``512MB`` or a plain count of bytes.

    Raises:
        ValueError: not a size, or not above zero. Suffixes are read without regard to case except
            that a lone lower-case ``b`` after a prefix is refused: ``8Gb`` means gigabits to half
            its readers.
    """
    match = _SIZE.match(str(text))
    if match is None:
        raise ValueError("not a size")
    number, suffix = match.groups()
    if len(suffix) > 1 and suffix[-1] == "b" and suffix[:-1] != suffix[:-1].lower():
        raise ValueError("not a size")  # '8Gb': bits or bytes, nobody knows
    factor = _SUFFIX.get(suffix.lower())
    if factor is None:
        raise ValueError("not a size")
    try:
        value = parse_decimal(number) * factor
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError("not a size") from error
    if value <= 0:
        raise ValueError("not above zero")
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def parse_cores(text: object) -> int:
    """Returns milli-cores read from cores (``2``, ``0.5``) or Kubernetes' ``500m``.

    Raises:
        ValueError: not a number of cores, or not above zero.
    """
    written = str(text).strip()
    if written.endswith("m"):
        value = parse_decimal(written[:-1])
    else:
        value = parse_decimal(written) * MILLIS
    if value <= 0:
        raise ValueError("not above zero")
    return max(1, int(value.to_integral_value(rounding="ROUND_CEILING")))


def usd_to_microusd(usd: object) -> int:
    """Returns micro-dollars, rounded half-even, from dollars."""
    return int((parse_decimal(usd) * MICROUSD).to_integral_value(rounding=ROUND_HALF_EVEN))


def microusd_to_usd(microusd: int) -> Decimal:
    """Returns dollars, exactly."""
    return Decimal(microusd) / MICROUSD


def gb_to_bytes(gb: object) -> int:
    """Returns bytes from decimal gigabytes; a fraction of a byte is rounded up."""
    return int((parse_decimal(gb) * GB).to_integral_value(rounding="ROUND_CEILING"))


def bytes_to_gb(size: int) -> Decimal:
    """Returns decimal gigabytes, exactly."""
    return Decimal(size) / GB


def millis_to_cores(cpu_millis: int) -> Decimal:
    """Returns cores, exactly."""
    return Decimal(cpu_millis) / MILLIS


def divide_half_even(numerator: int, denominator: int) -> int:
    """Returns numerator / denominator rounded half-even, in integers."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2 == 1):
        return quotient + 1
    return quotient


def lease_cost_microusd(price_microusd_per_hour: int, duration_ms: int) -> int:
    """Returns price x time in micro-dollars, rounded half-even once."""
    return divide_half_even(price_microusd_per_hour * duration_ms, MS_PER_HOUR)


def format_bytes(size: int) -> str:
    """Returns a size as people read it, in binary units: ``1.5 GiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def format_usd(microusd: int) -> str:
    """Returns dollars with all six decimals: ``$0.001234``."""
    sign = "-" if microusd < 0 else ""
    return f"{sign}${abs(microusd) // MICROUSD}.{abs(microusd) % MICROUSD:06d}"
