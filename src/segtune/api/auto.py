"""`auto`: from a folder to a promoted segmenter, in a given time."""

import hashlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.api.proposing import completed
from segtune.config.commands import absolute_words, command, word
from segtune.errors import ConfigError
from segtune.plugins.loading import load_plugins
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.automatic.job import AutoResult
    from segtune.data.proposal.choice import Ask

_NAME = re.compile(r"\w[\w.-]{0,99}")  # of a sweep; it names a folder


def auto(
    *overrides: str,
    minutes: float,
    source: str | Path | None = None,
    name: str | None = None,
    model: str | None = None,
    plugins: Sequence[str] = (),
    say: Log = to_stderr,
    ask: "Ask | None" = None,
) -> "AutoResult":
    """Find, train, evaluate and promote a segmenter for a dataset in a given time.

    `auto("dataset=street", minutes=5)` looks at the data and at this machine, decides on image
    size, batch, augmentation and starting configurations, and says why. It writes a sweep file,
    runs it, trains the best configuration for longer with a fresh seed, and promotes the better
    model. The same call goes on after an interruption.

    Args:
        overrides: the dataset, and any keys of a run; nothing is decided about these.
        minutes: for everything.
        source: annotations or folders in any layout, which are imported first; in place of
            `dataset=`.
        name: of the sweep; by default `auto-DATASET`.
        model: registered name; by default the dataset's name.
        plugins: files or modules that register parts of your own.
        ask: chooses between several ways to read a folder; see `segtune.data.proposal.choice`.

    Raises:
        ConfigError: too few minutes, or `name` belongs to another call.
        DataError: fewer than two images, one class alone, or files that cannot be repaired.
        Interrupted: stopped by the user; the same call goes on.
    """
    from segtune.config.compose import compose
    from segtune.config.conf_files import load_gate
    from segtune.data.source.places import check_place

    started = time.monotonic()
    load_plugins(plugins)
    _check_minutes(minutes, overrides)
    gate_words = [text for text in overrides if text.startswith("gate")]
    words = [text for text in overrides if text not in gate_words]
    gate = load_gate(gate_words)
    if source is not None:
        words = _with_imported(Path(os.path.expanduser(source)), words, say, ask)
    words, _ = completed(words, say, ask)
    config = compose(words).config
    if config.kind != "segmenter":
        raise ConfigError(f"kind={config.kind}: auto makes segmenters; train it: segtune train.")
    check_place(config.dataset)
    title = _title(config.dataset.name, config.dataset.root)
    name = name or f"auto-{title}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name={name}: letters, digits, _, . and - make a name, at most 100.")
    from segtune.automatic.job import AutoRequest, run_auto

    start = [str(source)] if source else []
    again = command("auto", *start, *overrides, name=name, model=model, minutes=f"{minutes:g}")
    words = absolute_words(words)
    request = AutoRequest(words, minutes, name, model or title, again, gate, started)
    return run_auto(request, say)


def _check_minutes(minutes: float, overrides: Sequence[str]) -> None:
    """Refuse minutes that are no time, and words that set the length of a run.

    Raises:
        ConfigError: names the word.
    """
    if minutes <= 0:
        raise ConfigError(f"minutes={minutes:g}: a number above 0 is needed.")
    for key in ("hp.num_epochs", "trainer.minutes"):
        if any(text.lstrip("+").partition("=")[0] == key for text in overrides):
            raise ConfigError(f"{key}: auto divides minutes={minutes:g} itself; leave it out.")


def _with_imported(source: Path, words: Sequence[str], say: Log, ask: "Ask | None") -> list[str]:
    """The words, with those of the imported dataset in place of those that say how to import it.

    An earlier import of the same files with the same words is used again.

    Raises:
        ConfigError: the words name a dataset as well.
    """
    from segtune.api.importing import import_dataset
    from segtune.config.compose import compose
    from segtune.config.dataset_schema import CLASSES_FILE

    if any(text.partition("=")[0] == "dataset" for text in words):
        raise ConfigError(f"give '{source}', or dataset=NAME, not both.")
    if (source / CLASSES_FILE).is_file():
        return [*words, "dataset=folder", word("dataset.root", str(source.absolute()))]
    others = [text for text in words if not text.startswith("dataset.")]
    given = [text for text in words if text.startswith("dataset.")]
    root = Path(compose(others).config.tracking.root).absolute()
    state = _state_of(source.absolute(), given, root)
    target = root / "auto" / "data" / state / _title("folder", str(source.absolute()))
    if target.is_dir():
        say(f"using the import of '{source}' in '{target}'")
    else:
        imported = import_dataset(source, target, *given, say=say, ask=ask)
        say(imported.lines()[0])
    return [*others, "dataset=folder", word("dataset.root", str(target))]


def _state_of(source: Path, words: Sequence[str], store: Path) -> str:
    """A short hash over the names, sizes and times of all files of a source, and over the words.

    Args:
        store: a folder that is left out, as it changes with each run.
    """
    from segtune.data.source.files import walk

    files = [source] if source.is_file() else [source / name for name in walk(source)]
    facts = [str(source), *sorted(words)]
    for file in files:
        if not file.is_relative_to(store):
            state = file.stat()
            facts.append(f"{file} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _title(name: str, root: str | None) -> str:
    """A name for sweep and model: the dataset's, or its folder's for datasets without a name.

    >>> _title("street", None), _title("folder", "/data/my roads")
    ('street', 'my_roads')
    """
    from segtune.data.formats import formats

    if root and (name == "folder" or name in formats()):
        name = Path(root).expanduser().name
    return re.sub(r"[^\w.-]", "_", name).lstrip("._-") or "data"
