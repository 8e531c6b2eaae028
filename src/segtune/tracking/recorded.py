"""The config that a run recorded, with the meaning that it had: for all that trains, measures or examines anew."""

from collections.abc import Sequence
from pathlib import Path

from segtune.config.compose import Composed
from segtune.config.conf_files import read_yaml
from segtune.config.dataset_schema import DatasetConfig, TableConfig
from segtune.config.keys import validate
from segtune.config.schema import RunConfig
from segtune.config.words import changed, split_word
from segtune.data.sources import advice_on_test, open_source
from segtune.errors import ConfigError, DataError
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store


def recorded_config(store: Store, run_id: str) -> RunConfig:
    """What a run was trained with, such that it can be used from any working folder.

    Raises:
        ConfigError: the run recorded none.
    """
    path = artifact(store, run_id, "config.yaml")
    if path is None:
        raise ConfigError(
            f"run {run_id} in '{store.uri}' recorded no config, so that its dataset is not known."
        )
    config = validate(read_yaml(path))
    where = store.tracking.model_dump(include={"root", "uri", "experiment"})
    tracking = config.tracking.model_copy(update=where)
    dataset = _at_its_place(config.dataset, store)
    return config.model_copy(update={"tracking": tracking, "dataset": dataset, "resume": None})


def dataset_of(composed: Composed, store: Store, run_id: str | None, model: str) -> DatasetConfig:
    """The dataset that a command is about: the one that it names, else the run's own with the changes that it asks for.

    Args:
        run_id: where the model came from; None for a mere folder.
        model: as the user gave it.

    Raises:
        ConfigError: no dataset is named, and the model belongs to no run that recorded one.
    """
    words = [o for o in composed.overrides if split_word(o).path[0] == "dataset"]
    if any(split_word(o).key == "dataset" for o in words):
        return composed.config.dataset
    if run_id is None:
        raise ConfigError(
            f"'{model}' belongs to no run, so that its dataset is not known. Name one: dataset=NAME, or "
            "dataset=folder dataset.root=DIR."
        )
    return changed_dataset(recorded_config(store, run_id).dataset, words)


def advice_on_test_split(store: Store, run_id: str) -> str:
    """How to have a test split, for a run whose dataset has none; empty where it has one or cannot be opened."""
    try:
        return advice_on_test(open_source(recorded_config(store, run_id).dataset))
    except (ConfigError, DataError):
        return ""


def changed_dataset(dataset: DatasetConfig, words: Sequence[str]) -> DatasetConfig:
    """A recorded dataset with `dataset.KEY=VALUE` words applied.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    if not words:
        return dataset
    new = changed(dataset, words, "dataset")
    given = {split_word(o).path[1] for o in words} & set(TableConfig.model_fields)
    if new.table is None or not given:
        return new
    if "classes" in given:  # the table is found anew
        return new.model_copy(update={"table": None})
    table = new.table.model_copy(update={key: getattr(new, key) for key in given})
    return new.model_copy(update={"table": table})


def _at_its_place(dataset: DatasetConfig, store: Store) -> DatasetConfig:
    """The dataset with an absolute root; version 0.1.0 recorded it as it was given, relative to its working folder."""
    if dataset.root is None or Path(dataset.root).expanduser().is_absolute():
        return dataset
    here, beside = Path(dataset.root).absolute(), store.root.parent / dataset.root
    root = beside if beside.exists() and not here.exists() else here
    return dataset.model_copy(update={"root": str(root)})
