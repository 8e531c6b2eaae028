"""The page of the public Python API, and its Markdown for readers without a browser."""

import inspect
import re
from importlib import import_module

import segtune

CLASSES = {
    "Models and their answers": [
        "segtune.inference.segmenter.Segmenter",
        "segtune.inference.segmenter.Segmentation",
        "segtune.inference.regions.regions.Region",
        "segtune.inference.workflow.workflow.Workflow",
        "segtune.inference.workflow.workflow.Worked",
    ],
    "Results": [
        "segtune.training.result.RunResult",
        "segtune.sweeping.launch.SweepResult",
        "segtune.sweeping.progress.Progress",
    ],
    "Errors": [
        "segtune.errors.ConfigError",
        "segtune.errors.DataError",
        "segtune.errors.StorageError",
    ],
}
PLACE = re.compile(r"^::: (\S+)\.(\w+)$", re.MULTILINE)  # mkdocstrings


def python_page() -> str:
    """Return the page: mkdocstrings writes the signatures and texts of each name."""
    names = [name for name in segtune.__all__ if not name.startswith("__")]
    parts = [
        "# Python",
        "Everything that the command line does exists in Python. Words such as "
        '`"template=swift"` are those of the command line, see [config keys](config.md).',
        "## Functions",
        *(f"::: {getattr(segtune, name).__module__}.{name}" for name in names),
    ]
    for title, classes in CLASSES.items():
        parts += [f"## {title}", *(f"::: {path}" for path in classes)]
    for module in ("segtune.sweeping", "segtune.testing"):
        exported = import_module(module)
        parts += [f"## {module}", inspect.getdoc(exported).partition("\n")[0]]
        for name in exported.__all__:
            parts.append(f"::: {getattr(exported, name).__module__}.{name}")
    return "\n\n".join(parts)


def as_markdown(text: str) -> str:
    """Return a page with the signature and docstring of each name in place of its directive."""

    def described(place: re.Match[str]) -> str:
        value = getattr(import_module(place[1]), place[2])
        # an exception of Python's own form has no signature to read
        is_error = isinstance(value, type) and issubclass(value, Exception)
        signature = "" if is_error else str(inspect.signature(value))
        signature = re.sub(r"<function (\w+) at \w+>", r"\1", signature)
        return f"### {place[2]}\n\n```python\n{place[2]}{signature}\n```\n\n{inspect.getdoc(value)}"

    return PLACE.sub(described, text)
