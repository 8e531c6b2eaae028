"""The sweeper that Hydra finds; the work is in `_search`, which loads Optuna."""

import sys
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SegtuneSweeper(Sweeper):
    """Searches an application's config with workers that pull trials.

    Args:
        settings: the fields of `SegtuneSweeperConf`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives: its config loader, the application and the config."""
        from hydra_plugins.segtune_sweeper._search import Application

        self.application = Application(hydra_context, config, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        """Search the space of the config and of the arguments.

        Returns:
            A `segtune.sweeping.SearchResult`.
        """
        from hydra_plugins.segtune_sweeper._search import search
        from segtune.errors import SegtuneError

        try:
            return search(self.application, self.settings, arguments)
        except SegtuneError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
