"""Send the changes of a running sweep to the pages that show it, as server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from segtune.errors import SegtuneError
from segtune.serving.ui.pages import macro
from segtune.sweeping.live import LiveSweep

State = dict[str, Any]
# seconds between two looks at a study: a hundred times as long as a look takes, so that looking
# takes 1 % of one core. An epoch must appear within 2 s, so a look of more than 15 ms takes more.
_SHARE = 100
_SOONEST, _LATEST = 0.5, 1.5
_UNTOUCHED = 5.0  # seconds until a study without a write is read: its workers may have died
_SILENCE = 15.0  # seconds until a comment tells proxies that the connection lives
_PARTS = "sweep_parts.html.j2"


class Feed:
    """Reads one sweep while pages follow it, and sends each page what it does not show yet."""

    def __init__(self, sweep: LiveSweep) -> None:
        self.sweep = sweep
        self._followers = 0
        self._state: State | None = None  # the newest; a slow page skips those before
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def follow(self) -> AsyncIterator[str]:
        """Yield events as they go over the wire; the first one brings a page up to date."""
        shown: State | None = None
        self._followers += 1
        if self._task is None or self._task.done():
            self._state = None
            self._task = asyncio.create_task(self._watch())
        try:
            while True:
                try:
                    state = await asyncio.wait_for(self._other_than(shown), _SILENCE)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                change, shown = changes(shown, state), state
                if change:
                    yield f"event: change\ndata: {json.dumps(change)}\n\n"
        finally:
            self._followers -= 1

    async def _other_than(self, shown: State | None) -> State:
        """Wait for a state that the page does not show."""
        async with self._news:
            await self._news.wait_for(lambda: self._state is not shown)
            assert self._state is not None
            return self._state

    async def _watch(self) -> None:
        """Read the study after each write, and now and then without one."""
        mark, read_at = None, -_UNTOUCHED
        while self._followers:
            started = time.perf_counter()
            new_mark = await asyncio.to_thread(self.sweep.mark)
            if new_mark is None or new_mark != mark or started - read_at > _UNTOUCHED:
                mark, read_at = new_mark, started
                await self._take(await asyncio.to_thread(self._read))
            seconds = time.perf_counter() - started
            await asyncio.sleep(min(max(_SHARE * seconds, _SOONEST), _LATEST))

    def _read(self) -> State | None:
        """Return the state of the sweep; of one that cannot be read now, the last with a reason."""
        try:
            return self.sweep.read()
        except (SegtuneError, OSError) as error:
            return self._state and self._state | {"fault": str(error)}
        except Exception as error:  # a study that is removed meanwhile may raise anything
            return self._state and self._state | {"fault": f"{type(error).__name__}: {error}"}

    async def _take(self, state: State | None) -> None:
        async with self._news:
            self._state = state
            self._news.notify_all()


def changes(before: State | None, after: State) -> dict[str, Any]:
    """Return what a page must change: parts of HTML by the id of their element, and curves.

    Args:
        before: the state that the page shows; None for all parts.
    """
    kept = {row["number"] for row in after["trials"]}
    if before is not None:
        is_other = before["study"] != after["study"]  # started anew under its name
        if is_other or any(row["number"] not in kept for row in before["trials"]):
            before = None
    parts: dict[str, str] = {}
    keys = param_keys(after)
    rows = {row["number"]: row for row in before["trials"]} if before else {}
    changed = [row for row in after["trials"] if rows.get(row["number"]) != row]
    if before is None or keys != param_keys(before):
        parts["trials"] = macro(_PARTS, "trials")(after, keys)
    else:
        for row in changed:
            parts[f"trial-{row['number']}"] = macro(_PARTS, "trial")(row, keys, after)
    if before is None or changed or _around(before) != _around(after):
        parts["summary"] = macro(_PARTS, "summary")(after)
        parts["workers"] = macro(_PARTS, "workers")(after["workers"])
    if not parts:
        return {}
    curves = [{k: row[k] for k in ("number", "state", "curve")} for row in changed]
    return {
        "parts": parts,
        "curves": curves,
        "is_whole": before is None,
        "best": after["best"],
        "ended": sum(after["counts"][state] for state in ("finished", "pruned", "failed")),
    }


def _around(state: State) -> list[Any]:
    """Return what the parts around the table of trials show."""
    return [state[key] for key in ("state", "counts", "workers", "fault")]


def param_keys(state: State) -> list[str]:
    """Return the parameters of all trials, in the order in which they first occur."""
    keys: dict[str, None] = {}
    for row in state["trials"]:
        keys |= dict.fromkeys(row["params"])
    return list(keys)
