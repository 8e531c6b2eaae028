"""What MLflow shows of a run from its first second on: the parameters that decided it."""

from segtune.config import flatten
from segtune.settings import RunConfig

_SECTIONS = ("hp", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer", "seed")


def logged_params(config: RunConfig) -> dict[str, object]:
    """The settings that decide how a run is trained, under their override keys."""
    plain = config.model_dump(mode="json")
    params = {key: value for key, value in flatten(plain) if key.split(".")[0] in _SECTIONS}
    return params | {"template": config.template["name"], "dataset.name": config.dataset.name}
