"""Render a room's templates, and write the files of a page together."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from segtune.errors import StorageError
from segtune.runtime.atomic import atomic_file
from segtune.runtime.strict_json import to_json

FOLDER = Path(__file__).parent
"""Holds the shared files: `base.css`, `table.js` and `page.html.j2`."""


def environment(room: str, **filters: Callable[..., Any]) -> Environment:
    """Return the templates of a room.

    A template finds the files beside it and those of `FOLDER`: it extends `page.html.j2`, which has
    the shared style, and includes `table.js` where it needs it. Pages (`*.html.j2`) escape the
    values; other texts do not. An undefined value is an error.

    Args:
        room: the package of the templates below segtune, such as `report`.
        filters: by name, in addition to `script_json`.
    """
    loaders = [PackageLoader("segtune", room), PackageLoader("segtune", "pages")]
    templates = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"script_json": script_json, **filters}
    return templates


def script_json(data: Any) -> Markup:
    r"""Return plain data as JSON that is safe inside a script element.

    >>> script_json({"name": "</script>", "miou": float("nan")})
    Markup('{"name": "\\u003c/script>", "miou": null}')
    """
    return Markup(to_json(data, ensure_ascii=False).replace("<", "\\u003c"))


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
