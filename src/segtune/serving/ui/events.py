"""Server-sent events of a sweep: each page that follows it hears of every change."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from segtune.errors import SegtuneError
from segtune.serving.ui.pages import macro
from segtune.sweeping.live import LiveSweep

State = dict[str, Any]
_SOONEST, _LATEST = 0.5, 1.5  # seconds between two looks at a study
_SHARE = 100  # times as long as a look takes: at most 1 % of one core
_SILENCE = 15.0  # seconds until a comment tells proxies that the connection lives
_PARTS = "sweep_parts.html.j2"


class Feed:
    """Looks at one sweep as long as somebody follows it, and tells all followers of changes."""

    def __init__(self, sweep: LiveSweep) -> None:
        self.sweep = sweep
        self._followers: set[asyncio.Queue[str]] = set()
        self._task: asyncio.Task[None] | None = None

    async def follow(self) -> AsyncIterator[str]:
        """Yield events as they go over the wire; the first one brings a page up to date."""
        messages: asyncio.Queue[str] = asyncio.Queue()
        self._followers.add(messages)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            state = await asyncio.to_thread(self.sweep.read)
            yield _event(changes(None, state))
            while True:
                try:
                    yield await asyncio.wait_for(messages.get(), _SILENCE)
                except TimeoutError:
                    yield ": alive\n\n"
        finally:
            self._followers.discard(messages)

    async def _watch(self) -> None:
        state, mark = None, object()
        while self._followers:
            started = time.perf_counter()
            new_mark = self.sweep.mark()
            if new_mark is None or new_mark != mark:
                mark = new_mark
                with suppress(SegtuneError, OSError):  # the storage is away: look again later
                    new_state = await asyncio.to_thread(self.sweep.read)
                    self._tell(changes(state, new_state) if state else {})
                    state = new_state
            seconds = time.perf_counter() - started
            await asyncio.sleep(min(max(_SHARE * seconds, _SOONEST), _LATEST))

    def _tell(self, change: dict[str, Any]) -> None:
        if change:
            event = _event(change)
            for messages in self._followers:
                messages.put_nowait(event)


def changes(before: State | None, after: State) -> dict[str, Any]:
    """Return what a page must change: parts of HTML by the id of their element, and curves.

    Args:
        before: the state that the page shows; None for all parts.
    """
    parts: dict[str, str] = {}
    keys = param_keys(after)
    rows = {row["number"]: row for row in before["trials"]} if before else {}
    changed = [row for row in after["trials"] if rows.get(row["number"]) != row]
    if before is None or keys != param_keys(before) or len(rows) > len(after["trials"]):
        parts["trials"] = macro(_PARTS, "trials")(after, keys)
    else:
        for row in changed:
            parts[f"trial-{row['number']}"] = macro(_PARTS, "trial")(row, keys, after)
    if before is None or changed or before["counts"] != after["counts"]:
        parts["summary"] = macro(_PARTS, "summary")(after)
        parts["workers"] = macro(_PARTS, "workers")(after["workers"])
    if not parts:
        return {}
    curves = [{k: row[k] for k in ("number", "state", "curve")} for row in changed]
    return {
        "parts": parts,
        "curves": curves,
        "best": after["best"],
        "ended": sum(after["counts"][state] for state in ("finished", "pruned", "failed")),
    }


def param_keys(state: State) -> list[str]:
    """Return the parameters of all trials, in the order in which they first occur."""
    keys: dict[str, None] = {}
    for row in state["trials"]:
        keys |= dict.fromkeys(row["params"])
    return list(keys)


def _event(change: dict[str, Any]) -> str:
    return f"event: change\ndata: {json.dumps(change)}\n\n"
