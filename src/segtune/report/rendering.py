"""Render the templates of this package."""

from functools import cache

from jinja2 import Environment

from segtune.pages.rendering import environment
from segtune.report.phrasing import points, short


def render(template: str, **values: object) -> str:
    """Render a template; pages (`*.html.j2`) escape the values, other texts do not."""
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> Environment:
    return environment("report", points=points, short=short, plain=_plain)


def _plain(text: object) -> str:
    """Escape a user's text for Markdown, so that it does not become markup."""
    return str(text).replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
