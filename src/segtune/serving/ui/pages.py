"""Render the pages: Jinja templates that escape every value."""

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader

import segtune.report
from segtune.pages.colors import SERIES
from segtune.pages.rendering import environment
from segtune.sweeping.progress import clock

_FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Return a page or a part of one."""
    return _templates().get_template(template).render(**values)


def macro(template: str, name: str) -> Any:
    """Return a template's macro, a function that returns a part of a page."""
    return getattr(_templates().get_template(template).module, name)


@cache
def _templates() -> Environment:
    templates = environment("serving/ui/templates", figure=figure, clock=_clock, moment=moment)
    assert isinstance(templates.loader, ChoiceLoader)
    more = (_FOLDER / "static", Path(segtune.report.__file__).parent)  # ui.css, plots.css
    templates.loader.loaders = [*templates.loader.loaders, FileSystemLoader(more)]
    templates.globals["colors"] = " ".join(SERIES)
    return templates


def figure(value: Any) -> str:
    """Return a value for a cell: four digits of a fraction, a dash for nothing.

    >>> figure(0.73214), figure(None), figure(3), figure("a")
    ('0.7321', '–', '3', 'a')
    """
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def moment(value: str | float) -> str:
    """Return a time, ISO or seconds since 1970, to the minute."""
    if isinstance(value, float):
        return f"{datetime.fromtimestamp(value):%Y-%m-%d %H:%M}"
    return value[:16].replace("T", " ")


def _clock(seconds: float | None) -> str:
    return "–" if seconds is None else clock(seconds)
