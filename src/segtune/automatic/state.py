"""What a call of `segtune auto` remembers, so that the same command goes on where it stopped."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segtune.errors import ConfigError, DataError
from segtune.runtime.atomic import atomic_file


class AutoState:
    """The words and the minutes of the first call, and the seconds that all calls have spent."""

    def __init__(
        self, folder: Path, words: Sequence[str], minutes: float, started: float | None = None
    ) -> None:
        """Open the state of a folder, or begin one.

        Args:
            started: when the call began, as `time.monotonic()`; by default now.

        Raises:
            ConfigError: the folder was begun with other words or minutes.
            DataError: its file is damaged.
        """
        self.path = folder / "state.json"
        self._started = time.monotonic() if started is None else started
        self._asked: dict[str, Any] = {"words": list(words), "minutes": minutes}
        self._before = 0.0
        self.reserved = 0.0
        if not self.path.is_file():
            return
        try:
            recorded = json.loads(self.path.read_text(encoding="utf-8"))
            asked = {key: recorded[key] for key in self._asked}
            self._before, self.reserved = float(recorded["spent"]), float(recorded["reserved"])
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                f"'{self.path}' is damaged. Remove it to begin anew; the trials stay."
            ) from None
        if asked != self._asked:
            old = f"minutes={asked['minutes']:g} {' '.join(asked['words'])}"
            raise ConfigError(
                f"'{folder}' was begun with other words: {old}. The same words go on with it; "
                "for a new search, give another name: name=NAME."
            )

    @property
    def spent(self) -> float:
        """Seconds that this and all earlier calls have taken."""
        return self._before + time.monotonic() - self._started

    def save(self) -> None:
        """Write the state."""
        content = {**self._asked, "spent": round(self.spent, 1), "reserved": self.reserved}
        with atomic_file(self.path) as unfinished:
            unfinished.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
