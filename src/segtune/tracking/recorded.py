"""Read the config that a run recorded, so that it means the same from any folder."""

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
from segtune.plugins.recorded import require_plugins
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store


def recorded_config(store: Store, run_id: str) -> RunConfig:
    """Return a run's config, valid from any working folder and with this store as its store.

    Raises:
        ConfigError: the run recorded no config.
        DataError: its config is damaged.
    """
    path = artifact(store, run_id, "config.yaml")
    if path is None:
        raise ConfigError(
            f"run {run_id} in '{store.address}' recorded no config, so its dataset is unknown."
        )
    config = validate(read_yaml(path))
    require_plugins(config.plugins, f"run {run_id}")
    epochs = config.hp.get("num_epochs")
    if not isinstance(epochs, int):
        raise DataError(f"run {run_id}: its '{path}' is damaged: hp.num_epochs={epochs!r}.")
    location = store.tracking.model_dump(include={"root", "uri", "experiment"})
    tracking = config.tracking.model_copy(update=location)
    dataset = _with_absolute_root(config.dataset, store)
    return config.model_copy(update={"tracking": tracking, "dataset": dataset, "resume": None})


def dataset_of(composed: Composed, store: Store, run_id: str | None, model: str) -> DatasetConfig:
    """Return the dataset that a command names, or else the run's dataset with its overrides.

    Args:
        run_id: the run of the model; None for a folder.
        model: the model as the user wrote it.

    Raises:
        ConfigError: the command names no dataset, and no run of the model recorded one.
    """
    words = [word for word in composed.overrides if split_word(word).path[0] == "dataset"]
    if any(split_word(word).key == "dataset" for word in words):
        return composed.config.dataset
    if run_id is None:
        raise ConfigError(
            f"'{model}' belongs to no run, so its dataset is unknown. Name one: dataset=NAME, or "
            "dataset=folder dataset.root=DIR."
        )
    return changed_dataset(recorded_config(store, run_id).dataset, words)


def advice_on_test_split(store: Store, run_id: str) -> str:
    """Return advice on how to get a test split for a run's dataset.

    Empty if the dataset has a test split or cannot be opened.
    """
    try:
        return advice_on_test(open_source(recorded_config(store, run_id).dataset))
    except (ConfigError, DataError):
        return ""


def changed_dataset(dataset: DatasetConfig, words: Sequence[str]) -> DatasetConfig:
    """Return a recorded dataset with `dataset.KEY=VALUE` overrides applied.

    Raises:
        ConfigError: a key is unknown or a value is wrong.
    """
    if not words:
        return dataset
    new = changed(dataset, words, "dataset")
    overridden = {split_word(word).path[1] for word in words} & set(TableConfig.model_fields)
    if new.table is None or not overridden:
        return new
    if "classes" in overridden:  # the recorded class table no longer applies
        return new.model_copy(update={"table": None})
    table = new.table.model_copy(update={key: getattr(new, key) for key in overridden})
    return new.model_copy(update={"table": table})


def _with_absolute_root(dataset: DatasetConfig, store: Store) -> DatasetConfig:
    """Return the dataset with an absolute root.

    segtune 0.1.0 recorded the root as given, relative to the working folder of the run.
    """
    if dataset.root is None or Path(dataset.root).expanduser().is_absolute():
        return dataset
    root = Path(dataset.root).absolute()
    beside_store = store.root.parent / dataset.root
    if beside_store.exists() and not root.exists():
        root = beside_store
    return dataset.model_copy(update={"root": str(root)})
