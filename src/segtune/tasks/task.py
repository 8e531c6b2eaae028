"""The tasks that segtune fine-tunes models for, chosen by a config or by a trained model."""

from segtune.config.schema import RunConfig
from segtune.inference.labeler import RegionLabeler
from segtune.inference.segmenter import Segmenter
from segtune.tasks.region_labeling import RegionLabeling
from segtune.tasks.segmentation import Segmentation

Task = Segmentation | RegionLabeling


def task_of(config: RunConfig) -> Task:
    """The task that a config trains a model for."""
    if config.labeler:
        return RegionLabeling(config.labeler.concept, config.labeler.min_area)
    return Segmentation()


def task_of_model(model: Segmenter | RegionLabeler) -> Task:
    """The task that a trained model was made for."""
    if isinstance(model, RegionLabeler):
        return RegionLabeling(model.concept, model.min_area)
    return Segmentation()
