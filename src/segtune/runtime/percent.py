"""Shares as percentages, for people."""

from decimal import Decimal


def percent(share: float) -> str:
    """A share in three significant digits, never with an exponent; 100 % is all of it.

    >>> percent(1.0), percent(0.9999), percent(0.1234), percent(0.0000421), percent(0)
    ('100 %', '99.9 %', '12.3 %', '0.00421 %', '0 %')
    """
    text = f"{Decimal(f'{100 * share:.3g}'):f}"
    return "99.9 %" if text == "100" and share < 1 else f"{text} %"
