"""The teacher of a run: the trained segmenter whose soft labels it learns, too."""

from segtune.classes import ClassTable
from segtune.config.schema import RunConfig
from segtune.errors import ConfigError, DataError
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.models.folder import MANIFEST, file_hash
from segtune.models.losses.distillation import Distillation
from segtune.runtime.log import Log
from segtune.tracking.registry import locate
from segtune.tracking.store import open_store


def with_teacher(config: RunConfig, say: Log) -> RunConfig:
    """The config with a teacher that stays the same: a version in place of an alias, and its hash.

    Raises:
        ConfigError: no such segmenter, or a run that cannot learn from one.
        DataError: the recorded teacher has changed.
    """
    if config.loss.teacher is None:
        return config
    if config.labeler is not None:
        raise ConfigError("loss.teacher: a labeler has none; it teaches kind=segmenter alone.")
    if config.tuning.cached_views:
        raise ConfigError(
            f"loss.teacher needs images, and tuning.cached_views={config.tuning.cached_views} "
            "trains on stored features. Set tuning.cached_views=0."
        )
    located = locate(config.loss.teacher, open_store(config.tracking))
    if located.note:
        say(located.note)
    digest = file_hash(located.folder / MANIFEST)
    if config.loss.teacher_hash not in (None, digest):
        raise DataError(
            f"loss.teacher={config.loss.teacher} has changed since the run began (hash "
            f"{config.loss.teacher_hash[:12]}, now {digest[:12]}). Restore it, or train anew."
        )
    pinned = {"teacher": located.pinned or str(located.folder), "teacher_hash": digest}
    return config.model_copy(update={"loss": config.loss.model_copy(update=pinned)})


def distillation_of(config: RunConfig, classes: ClassTable) -> Distillation | None:
    """The term that compares a run with its teacher; None without one.

    Args:
        config: as `with_teacher` returns it.

    Raises:
        ConfigError: the teacher is no segmenter, or knows other classes.
    """
    loss = config.loss
    if loss.teacher is None:
        return None
    teacher = open_model(locate(loss.teacher, open_store(config.tracking)).folder, "cpu")
    if not isinstance(teacher, Segmenter):
        raise ConfigError(
            f"loss.teacher={loss.teacher} is a {type(teacher).__name__}; a segmenter is needed."
        )
    names = teacher.classes.names
    missing = [name for name in classes.names if name not in names]
    other = [name for name in names if name not in classes.names]
    if missing or other:
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"also knows {', '.join(other)}"] if other else []
        raise ConfigError(
            f"loss.teacher={loss.teacher} {' and '.join(faults)}: teacher and dataset must have "
            "the same classes, in any order. Train a teacher on them, or give dataset.classes "
            "its names."
        )
    return Distillation(
        teacher.model.requires_grad_(False),
        [names.index(name) for name in classes.names],
        loss.teacher_weight,
        loss.temperature,
        _zoom(teacher, config),
    )


def _zoom(teacher: Segmenter, config: RunConfig) -> float:
    """Pixels of the teacher's images per pixel of the run's; 1 where a size has two sides."""
    sizes = teacher.image_size, list(config.hp["image_size"])
    if any(len(size) != 1 for size in sizes):
        return 1.0
    return float(sizes[0][0] / sizes[1][0])
