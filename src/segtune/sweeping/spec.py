"""A sweep file: one question, the space that it searches, and how much of it is tried."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from segtune.config import parse_settings, read_yaml, shipped
from segtune.errors import ConfigError, nearest
from segtune.settings import Count, Settings


class SweepSpec(Settings):
    """What a sweep file says.

    Attributes:
        n_trials: the study's total, whatever is stopped and resumed.
        workers: processes that pull trials; CPU threads are shared out among them.
        pruner: `median` stops a trial that is below the median of the others at the same epoch; `halving` keeps the
            better half at 1, 2, 4 … times `pruner_warmup` epochs.
        pruner_warmup: validations before a trial may be pruned.
        max_retries: how often a trial whose worker died is started again from its last checkpoint.
        overrides: of every trial, as on the command line.
        search: key -> {} for the template's own range, {min, max, step, log}, or a list of choices. Keys are
            `hp.NAME`, `template` and any other config group.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    n_trials: Count
    workers: Count = 2
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["none", "median", "halving"] = "median"
    pruner_warmup: Count = 3
    max_retries: Annotated[int, Field(ge=0)] = 2
    overrides: list[str] = []
    search: Annotated[dict[str, Any], Field(min_length=1)]

    def identity(self) -> dict[str, Any]:
        """What must stay the same when a sweep is resumed: the question, not how fast it is answered."""
        return self.model_dump(include={"search", "overrides", "seed", "sampler", "pruner", "pruner_warmup"})


def load_spec(name: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """Reads `sweeps/NAME.yaml` (the user's before ours) or a path, with `sweep.KEY=VALUE` overrides applied.

    Other overrides are added to those of every trial.

    Raises:
        ConfigError: no such sweep (with the nearest name), unknown keys, wrong values.
    """
    path = find_sweep(name)
    data: dict[str, Any] = {"name": path.stem, **read_yaml(path)}
    own = [o.removeprefix("sweep.") for o in overrides if o.startswith("sweep.")]
    data |= _parsed(own)
    rest = [o for o in overrides if not o.startswith("sweep.")]
    data["overrides"] = [*(data.get("overrides") or []), *rest]
    return parse_settings(SweepSpec, data, where=str(path))


def find_sweep(name: str) -> Path:
    """The file of a sweep.

    Raises:
        ConfigError: there is none of that name.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"sweep file '{name}' does not exist.")
    folders = (Path("sweeps"), shipped("sweeps"))
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = {p.stem for f in folders for p in f.glob("*.yaml")}
    raise ConfigError(f"sweep '{name}' is not in sweeps/; {nearest(name, known)}")


def _parsed(overrides: Sequence[str]) -> Mapping[str, Any]:
    from omegaconf import OmegaConf

    for text in overrides:
        if "=" not in text:
            raise ConfigError(f"'sweep.{text}' is not key=value, e.g. sweep.n_trials=20.")
    found = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    assert isinstance(found, dict)
    return {str(k): v for k, v in found.items()}
