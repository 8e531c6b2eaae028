"""`merge`: one segmenter of several seeds of a configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from segtune.api.experiments import open_root
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.plugins.loading import load_plugins
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.evaluation.merged_run import Merged


def merge(
    *runs: str,
    how: Literal["auto", "weights", "logits"] = "auto",
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
    plugins: Sequence[str] = (),
    say: Log = to_stderr,
) -> "Merged":
    """Merge runs that differ in their seed into one segmenter, if it measures better on val.

    The result is a run like any other: `promote`, `predict`, `export` and `serve` take it.

    Args:
        how: `weights` averages the weights and recomputes batch norm statistics, at the cost of one
            model; `logits` averages the logits, at the cost of all. `auto` takes the weights if
            they are better than the best run, else the logits.
        plugins: files or modules that register parts of your own.

    Raises:
        ConfigError: fewer than two runs, or runs with other classes, template, sizes or images.
    """
    load_plugins(plugins)
    from segtune.evaluation.merged_run import merge as merge_runs

    return merge_runs(open_root(root, uri, experiment), runs, how, say)
