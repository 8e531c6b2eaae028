"""Colours of lines and marks that stay apart for every kind of colour vision."""

SERIES = (
    "#2266aa",
    "#ee5511",
    "#449966",
    "#8811ff",
    "#cc77bb",
    "#bb3300",
    "#aa77ff",
    "#885566",
)
"""Colours of lines and dots.

Each has a contrast of at least 3:1 on the light and on the dark page. Any two are at least 10 apart
(OKLab, 0..100), for readers with protanopia, deuteranopia or tritanopia too.
"""
