"""Register a run's segmenter and make it champion if it passes every rule of the gate."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock
from mlflow.entities.model_registry import ModelVersion

from segtune.config.schema import GateConfig
from segtune.errors import ConfigError
from segtune.tracking.gate import Contender, Verdict, judge, with_split
from segtune.tracking.registry import CHAMPION, champion_of, register
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import RunRecord, quoted
from segtune.tracking.store import Store
from segtune.tracking.versions import MANIFEST_HASH, refresh_copy, registered_run, version_files

_HISTORY_TAG = "segtune.champions"


@dataclass(frozen=True)
class Promotion:
    """The result of `promote`.

    Attributes:
        moved: whether this version is champion now.
        reason: the decision in words.
        verdicts: of all rules; empty if the version was champion already.
        split: the split of the judged evidence; empty if nothing was judged.
        note: a remark about that split, for example that the dataset has no test split.
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
        """Return the result as one JSON object, for scripts."""
        return {
            "uri": self.uri,
            "model": self.model,
            "version": self.version,
            "run": self.run_id,
            "champion": self.moved,
            "reason": self.reason,
            "split": self.split,
            "note": self.note,
            "rules": [v.to_json() for v in self.verdicts],
        }

    def lines(self) -> list[str]:
        """Return the lines for the terminal."""
        on_val = " (judged on val)" if self.note else ""
        lines = [v.line() for v in self.verdicts]
        lines.append(f"{self.uri} {self.reason}{on_val}")
        if self.note:
            lines.append(f"! {self.note}")
        return lines


def promote(store: Store, run: RunRecord, model: str, gate: GateConfig) -> Promotion:
    """Register a run's segmenter once, and make it champion if it passes every rule of the gate.

    The decision is saved with the run, as `promotions/MODEL-vVERSION-TIME.json`.

    Raises:
        ConfigError: the run has no segmenter.
        DataError: evidence is damaged.
    """
    with _registry_lock(store):
        version = register(store, run, model)
        number = int(version.version)
        champion = champion_of(store, model)
        if champion is not None and int(champion.version) == number:
            return Promotion(model, number, run.id, True, "is the champion already")
        contender = Contender(run, version.tags[MANIFEST_HASH], _runs_of_model(store, model))
        champion_run = registered_run(store, champion) if champion else None
        champion_lost = champion is not None and champion_run is None
        gate, note = with_split(store, run, gate)
        verdicts = judge(store, contender, champion_run, gate, champion_lost)
        failed = [v.rule for v in verdicts if v.passed is False]
        if not failed:
            _make_champion(store, model, number)
        reason = _reason(champion, champion_lost, failed)
        result = Promotion(model, number, run.id, not failed, reason, verdicts, gate.split, note)
        for registered in (version, champion):
            if registered is not None:
                refresh_copy(store, registered)
        _save_decision(store, result, gate, champion)
        return result


def promote_unjudged(store: Store, run: RunRecord, model: str) -> Promotion:
    """Register a run's model and make it champion without the gate.

    This is for workflows: the gate has judged their parts.

    Raises:
        ConfigError: MLflow refuses the name.
    """
    with _registry_lock(store):
        number = int(register(store, run, model).version)
        champion = champion_of(store, model)
        if champion is None or int(champion.version) != number:
            _make_champion(store, model, number)
        reason = "is champion: it is a workflow, and its parts were judged"
        return Promotion(model, number, run.id, True, reason)


def rollback(store: Store, model: str) -> tuple[int, int]:
    """Make the previous champion champion again; return (new version, replaced version).

    Raises:
        ConfigError: there is no such model, or no earlier champion.
    """
    with _registry_lock(store):
        champion = champion_of(store, model)
        if champion is None:
            raise ConfigError(f"model={model}: no champion is registered under that name.")
        versions = store.client.search_model_versions(f"name = {quoted(model)}")
        existing = {int(v.version) for v in versions}
        present = int(champion.version)
        history = _history(store, model)[:-1]
        earlier = [v for v in history if v in existing and v != present]
        without_files = []
        while earlier and not _has_files(store, model, earlier[-1]):
            without_files.append(earlier.pop())
        if not earlier:
            reason = "is the first champion; there is none before it to go back to"
            if without_files:
                lost = without_files[0]
                reason = f"cannot be rolled back: the files of champion {lost} before it are gone"
            raise ConfigError(f"model={model}: version {present} {reason}.")
        _set_history(store, model, earlier)
        store.client.set_registered_model_alias(model, CHAMPION, str(earlier[-1]))
        return earlier[-1], present


def _reason(champion: ModelVersion | None, champion_lost: bool, failed: Sequence[str]) -> str:
    if failed:
        stays = f", version {champion.version} stays" if champion else ""
        return f"does not become champion{stays}: {', '.join(failed)} failed"
    if champion is None:
        return "is the first champion"
    reason = f"takes over from version {champion.version}"
    if champion_lost:
        reason += "; the two were not compared, since that version's run and evidence were removed"
    return reason


def _save_decision(
    store: Store, result: Promotion, gate: GateConfig, champion: ModelVersion | None
) -> None:
    now = datetime.now(UTC)
    decision = {
        "time": now.isoformat(timespec="seconds"),
        "gate": gate.model_dump(),
        **result.to_json(),
        "before": champion and int(champion.version),
    }
    name = f"promotions/{result.model}-v{result.version}-{now:%Y%m%dT%H%M%S%f}.json"
    RunWriter(store, result.run_id).data(name, decision)


def _runs_of_model(store: Store, model: str) -> frozenset[str]:
    versions = store.client.search_model_versions(f"name = {quoted(model)}")
    return frozenset(str(v.run_id) for v in versions)


def _has_files(store: Store, model: str, version: int) -> bool:
    try:
        version_files(store, store.client.get_model_version(model, str(version)))
    except ConfigError:
        return False
    return True


def _registry_lock(store: Store) -> FileLock:
    return FileLock(store.root / ".registry.lock", timeout=300)


def _make_champion(store: Store, model: str, version: int) -> None:
    store.client.set_registered_model_alias(model, CHAMPION, str(version))
    _set_history(store, model, [*_history(store, model), version])


def _history(store: Store, model: str) -> list[int]:
    """Return the versions that were champion, in order."""
    tag = store.client.get_registered_model(model).tags.get(_HISTORY_TAG, "[]")
    return [int(v) for v in json.loads(tag)]


def _set_history(store: Store, model: str, versions: Sequence[int]) -> None:
    store.client.set_registered_model_tag(model, _HISTORY_TAG, json.dumps(list(versions)))
