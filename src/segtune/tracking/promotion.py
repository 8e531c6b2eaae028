"""Promotion: a run's segmenter is registered, judged by the gate, and made champion if every rule passes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock

from segtune.config.schema import GateConfig
from segtune.errors import ConfigError
from segtune.tracking.gate import Contender, Verdict, judge, settled
from segtune.tracking.registry import CHAMPION, champion_of, register
from segtune.tracking.runs import RunRecord, RunWriter, quoted
from segtune.tracking.store import Store
from segtune.tracking.versions import MANIFEST_HASH, refresh_copy, registered_run, version_files

_HISTORY = "segtune.champions"


@dataclass(frozen=True)
class Promotion:
    """What `promote` did.

    Attributes:
        moved: whether the champion is this version now.
        reason: in words.
        verdicts: of each rule; empty for one that is champion already.
        split: whose evidence was judged; empty where none was.
        note: what is to be known of that split, as that the dataset has no test split.
    """

    model: str
    version: int
    run_id: str
    moved: bool
    reason: str
    verdicts: Sequence[Verdict] = ()
    split: str = ""
    note: str = ""

    @property
    def uri(self) -> str:
        """The registered version, `models:/NAME/VERSION`."""
        return f"models:/{self.model}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        rules = [v.to_json() for v in self.verdicts]
        told = {"uri": self.uri, "model": self.model, "version": self.version, "run": self.run_id}
        told |= {
            "champion": self.moved,
            "reason": self.reason,
            "split": self.split,
            "note": self.note,
        }
        return told | {"rules": rules}

    def lines(self) -> list[str]:
        """For people."""
        on_val = " (judged on val)" if self.note else ""
        lines = [*(v.line() for v in self.verdicts), f"{self.uri} {self.reason}{on_val}"]
        return [*lines, *([f"! {self.note}"] if self.note else [])]


def promote(store: Store, run: RunRecord, model: str, gate: GateConfig) -> Promotion:
    """Registers a run's segmenter (once), and makes it champion if every rule of the gate passes.

    The decision is kept with the run, as `promotions/MODEL-vVERSION-TIME.json`.

    Raises:
        ConfigError: the run kept no segmenter.
        DataError: evidence that is damaged.
    """
    with _lock(store):
        version = register(store, run, model)
        number = int(version.version)
        champion = champion_of(store, model)
        if champion is not None and int(champion.version) == number:
            return Promotion(model, number, run.id, True, "is the champion already")
        runs = {
            str(v.run_id) for v in store.client.search_model_versions(f"name = {quoted(model)}")
        }
        contender = Contender(run, version.tags[MANIFEST_HASH], frozenset(runs))
        present = registered_run(store, champion) if champion else None
        lost = champion is not None and present is None
        gate, note = settled(store, run, gate)
        verdicts = judge(store, contender, present, gate, lost)
        failed = [v.rule for v in verdicts if v.passed is False]
        if failed:
            stays = (
                f"version {champion.version} stays champion" if champion else "there is no champion"
            )
            reason = f"{stays}: {', '.join(failed)} failed"
        else:
            _make_champion(store, model, number)
            reason = (
                f"takes over from version {champion.version}"
                if champion
                else "is the first champion"
            )
            reason += (
                ", whose run and evidence were removed: the two could not be compared"
                if lost
                else ""
            )
        result = Promotion(model, number, run.id, not failed, reason, verdicts, gate.split, note)
        now = datetime.now(UTC)
        told = {
            "time": now.isoformat(timespec="seconds"),
            "gate": gate.model_dump(),
            **result.to_json(),
        }
        told["before"] = champion and int(champion.version)
        for kept in filter(None, (version, champion)):
            refresh_copy(store, kept)
        RunWriter(store, run.id).data(
            f"promotions/{model}-v{number}-{now:%Y%m%dT%H%M%S%f}.json", told
        )
        return result


def crown(store: Store, run: RunRecord, model: str) -> Promotion:
    """Registers what a run kept and makes it champion unjudged: for workflows, whose parts were judged.

    Raises:
        ConfigError: a name that MLflow does not take.
    """
    with _lock(store):
        number = int(register(store, run, model).version)
        champion = champion_of(store, model)
        if champion is None or int(champion.version) != number:
            _make_champion(store, model, number)
        return Promotion(
            model, number, run.id, True, "is champion: a workflow, whose parts were judged"
        )


def rollback(store: Store, model: str) -> tuple[int, int]:
    """Makes the champion before the present one champion again; returns (version now, version before).

    Raises:
        ConfigError: no such model, or no champion before this one.
    """
    with _lock(store):
        champion = champion_of(store, model)
        if champion is None:
            raise ConfigError(f"model={model}: no champion is registered under that name.")
        known = {
            int(v.version) for v in store.client.search_model_versions(f"name = {quoted(model)}")
        }
        present, history = int(champion.version), _history(store, model)
        earlier = [v for v in history[:-1] if v in known and v != present]
        lost = []
        while earlier and not _has_files(store, model, earlier[-1]):
            lost.append(earlier.pop())
        if not earlier:
            why = (
                f"is the first champion whose files are left (version {lost[0]} lost its own)"
                if lost
                else "is the first champion"
            )
            raise ConfigError(
                f"model={model}: version {present} {why}; there is none before it to go back to."
            )
        _set_history(store, model, earlier)
        store.client.set_registered_model_alias(model, CHAMPION, str(earlier[-1]))
        return earlier[-1], present


def _has_files(store: Store, model: str, version: int) -> bool:
    try:
        version_files(store, store.client.get_model_version(model, str(version)))
    except ConfigError:
        return False
    return True


def _lock(store: Store) -> FileLock:
    return FileLock(store.root / ".registry.lock", timeout=300)


def _make_champion(store: Store, model: str, version: int) -> None:
    store.client.set_registered_model_alias(model, CHAMPION, str(version))
    _set_history(store, model, [*_history(store, model), version])


def _history(store: Store, model: str) -> list[int]:
    """Versions that were champion, in order."""
    told = store.client.get_registered_model(model).tags.get(_HISTORY, "[]")
    return [int(v) for v in json.loads(told)]


def _set_history(store: Store, model: str, versions: Sequence[int]) -> None:
    store.client.set_registered_model_tag(model, _HISTORY, json.dumps(list(versions)))
