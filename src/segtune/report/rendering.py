"""Render this package's templates, and write the files of a page together."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from segtune.errors import StorageError
from segtune.report.phrasing import points, short
from segtune.runtime.atomic import atomic_file


def render(template: str, **values: object) -> str:
    """Render a template; pages (`*.html.j2`) escape the values, other texts do not."""
    return _environment().get_template(template).render(**values)


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write text files by name; a failure leaves the files of an earlier call unchanged.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        with ExitStack() as stack:  # all files are complete before the first gets its name
            for name, text in files.items():
                unfinished = stack.enter_context(atomic_file(folder / name))
                unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the report '{folder}' cannot be written: {error}. Set output=DIR."
        ) from None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("segtune", "report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"points": points, "short": short, "plain": _plain}
    return environment


def _plain(text: object) -> str:
    """Escape a user's text for Markdown, so that it does not become markup."""
    return str(text).replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
