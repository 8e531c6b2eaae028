"""A sweep file: one question, the space to search, and the number of trials."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from segtune.config.commands import command
from segtune.config.conf_files import read_yaml
from segtune.config.conf_folders import shipped
from segtune.config.dataset_schema import Count, Settings
from segtune.config.environment import refuse_secrets
from segtune.config.keys import parse_settings
from segtune.config.renamed import announce, keys_of
from segtune.config.schema import Positive, TrackingConfig
from segtune.config.words import assign, assignments, split_word
from segtune.errors import ConfigError, nearest
from segtune.plugins.registry import find
from segtune.runtime.addresses import move_passwords
from segtune.sweeping.engine.prior import Confidence
from segtune.sweeping.engine.settings import Direction
from segtune.sweeping.engine.study_storage import shared
from segtune.sweeping.objectives import DEFAULT, Objective, parse_objectives
from segtune.sweeping.recorded_keys import comparable_identity, with_current_keys


class Constraints(Settings):
    """Limits on the built model; a trial beyond one of them ends before it trains.

    Attributes:
        latency_ms: median time of one image through the model, at the image size of the val split,
            on the trial's device.
        params_m: number of parameters, in millions.
        memory_mb: peak memory of one training step: of the GPU, or of the process on a CPU.
    """

    latency_ms: Positive | None = None
    params_m: Positive | None = None
    memory_mb: Positive | None = None

    def limits(self) -> dict[str, float]:
        """Return the limits that are set."""
        return {key: limit for key, limit in self.model_dump().items() if limit is not None}


class StopWhen(Settings):
    """The end of a sweep before its total.

    Attributes:
        gain_below: points (hundredths) of the first objective. The sweep ends when half as many
            trials again are expected to gain less.
    """

    gain_below: Positive


class SweepSpec(Settings):
    """The content of a sweep file.

    Attributes:
        name: of the study; by default the name of the file.
        seed: of the sampler.
        objective: logged metric that the sweep improves: `val/miou`, `val/iou/CLASS`,
            `val/boundary_iou`, `cost/latency_ms`, or a metric of a plugin; `-NAME` minimizes it.
            A list makes a study of several objectives; the first one prunes, and names the best.
        n_trials: the total of the study, over all its starts.
        budget: time to spend, as `45m`, `2h` or `1h30m`, beside or instead of `n_trials`. Trials
            are not cut short: the sweep ends within a tenth of the budget if a trial takes at most
            a fifth of it.
        workers: processes that pull trials; they share the CPU threads. `auto` times a step with
            fewer and more threads, and takes the number of workers that finishes most trials in an
            hour; on a GPU, as many as its free memory holds, at most four.
        sampler: `tpe`, `gp`, `cmaes`, `random`, `qmc`, `nsgaii`, `grid`, which tries every
            configuration, or a sampler of a plugin.
        pruner: `median` stops a trial that is below the median of the others at the same epoch;
            `patient` does so only after the trial stopped improving; `halving` keeps the best third
            at 1, 3, 9 … times `pruner_warmup` epochs; `hyperband` runs several of those side by
            side.
        sampler_options: arguments of the sampler, as of Optuna's class, or of a plugin's sampler.
        pruner_options: arguments of the pruner of a plugin.
        pruner_warmup: validations before a trial may be pruned.
        fidelity: pause every trial after so many epochs. The best of them go on from their
            checkpoints, see `promote_each`. `auto` trains five trials to their end, and takes the
            first epoch from which on their ranks agree with those at the end.
        promote_each: of so many paused trials one goes on to its last epoch.
        prior: `defaults`, or {key: value} over keys of `search`: it is tried first, and a share of
            the trials is drawn around it. A key that is left out has its default, as in `enqueue`.
        prior_confidence: `low`, `medium` or `high`: 25, 50 or 75 % of the trials are drawn around
            the prior, with a standard deviation of 30, 20 or 10 % of a key's range.
        start_from: names of sweeps in this store; the three best configurations of each are tried
            first, as far as this sweep's space holds their values.
        stop_when: {gain_below: 0.2} ends the sweep when half as many trials again are expected to
            gain less than 0.2 points.
        max_retries: how many times in a row a trial may lose its worker at the same epoch.
        lease: seconds without a sign of life after which another worker takes a trial over.
        allow_drift: resume although the space, the dataset or the version changed; the study
            records the change.
        constraints: limits on the built model; a trial beyond one of them ends before it trains.
        storage: `postgresql://…`, for workers on several machines; by default a file.
        launcher: starts the workers: `local` on this machine, `slurm`, `ray` on a Ray cluster, or a
            launcher of a plugin.
        launcher_options: of the launcher of a plugin.
        cpus: of each worker, for Slurm and Ray.
        gpus: of each worker, for Slurm and Ray.
        slurm: parameters of submitit, as `slurm_partition` or `timeout_min`.
        dry_run: print the plan and start nothing.
        overrides: of every trial, as on the command line.
        enqueue: configurations that are tried first and count as trials, each as {key: value} over
            keys of `search`, or the word `default`. A key that an item leaves out has its default:
            of the first template, as under `overrides`.
        search: key -> {} for the template's own range, {min, max, step, log}, or a list of choices.
            Keys are `hp.NAME`, `template` and any other config group, and settings such as `seed`
            or `augment.crop_start`, which have no range of their own.
    """

    # a folder's name: not hidden, not "..", short enough for any file system
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
    objective: str | Annotated[list[str], Field(min_length=1)] = DEFAULT
    n_trials: Count | None = None
    budget: Annotated[str, Field(pattern=r"^(\d+h)?(\d+m)?(\d+s)?$", min_length=2)] | None = None
    workers: Count | Literal["auto"] = 2
    seed: int = 0
    sampler: str = "tpe"
    sampler_options: dict[str, Any] = {}
    pruner: str = "median"
    pruner_options: dict[str, Any] = {}
    pruner_warmup: Count = 3
    fidelity: Count | Literal["auto"] | None = None
    promote_each: Count = 9
    prior: Literal["defaults"] | dict[str, Any] | None = None
    prior_confidence: Confidence = "medium"
    start_from: list[str] = []
    stop_when: StopWhen | None = None
    max_retries: Annotated[int, Field(ge=0)] = 3
    lease: Annotated[float, Field(ge=1)] = 60.0
    allow_drift: bool = False
    constraints: Constraints = Constraints()
    storage: Annotated[str, AfterValidator(shared)] | None = None
    launcher: str = "local"
    launcher_options: dict[str, Any] = {}
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    slurm: dict[str, Any] = {}
    dry_run: bool = False
    overrides: list[str] = []
    enqueue: list[Literal["default"] | dict[str, Any]] = []
    search: Annotated[dict[str, Any], Field(min_length=1)]

    @field_validator(
        "n_trials",
        "workers",
        "seed",
        "pruner_warmup",
        "fidelity",
        "promote_each",
        "max_retries",
        "lease",
        "cpus",
        "gpus",
        mode="before",
    )
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a number is expected")
        return value

    @model_validator(mode="before")
    @classmethod
    def _use_current_keys(cls, data: Any) -> Any:
        return with_current_keys(data) if isinstance(data, Mapping) else data

    @model_validator(mode="before")
    @classmethod
    def _pause_in_place_of_pruning(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("fidelity") is not None:
            return {"pruner": "none", **data}
        return data

    @field_validator("overrides")
    @classmethod
    def _keep_no_password(cls, value: list[str]) -> list[str]:
        return move_passwords(value)

    @model_validator(mode="after")
    def _has_an_end(self) -> "SweepSpec":
        if self.n_trials is None and self.budget is None:
            raise ValueError("give n_trials, or a budget as 45m")
        return self

    @model_validator(mode="after")
    def _has_one_way_to_stop_trials(self) -> "SweepSpec":
        for key, needed in (("prior_confidence", "prior"), ("promote_each", "fidelity")):
            default = type(self).model_fields[key].default
            if getattr(self, needed) is None and getattr(self, key) != default:
                raise ValueError(f"{key} says nothing without {needed}; give that too")
        if self.prior is not None and self.sampler == "grid":
            raise ValueError("sampler=grid tries every configuration once; leave prior out")
        if self.fidelity is None:
            return self
        if self.pruner != "none":
            raise ValueError(f"fidelity pauses trials, and pruner={self.pruner} ends them")
        if len(self.objectives) > 1:
            raise ValueError("fidelity ranks trials by one objective; name one")
        if self.sampler in ("gp", "cmaes", "nsgaii"):
            learns = f"sampler={self.sampler} learns from finished trials alone"
            raise ValueError(f"fidelity leaves few, and {learns}; take tpe, random, qmc or grid")
        if "hp.num_epochs" in self.search:
            raise ValueError(
                "fidelity compares trials of one length, and search.hp.num_epochs varies it; "
                "leave one of the two out"
            )
        return self

    @property
    def gain_below(self) -> float | None:
        """The expected gain, in points, below which the sweep ends."""
        return None if self.stop_when is None else self.stop_when.gain_below

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The direction of each objective."""
        return tuple(objective.direction for objective in self.objectives)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """The names of the objectives, as `val/miou`."""
        return tuple(objective.name for objective in self.objectives)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metrics that the sweep improves.

        Raises:
            ConfigError: no such metric.
        """
        return parse_objectives(self.objective)

    @property
    def processes(self) -> int:
        """The number of workers; two until `auto` is measured."""
        return self.workers if isinstance(self.workers, int) else 2

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        if self.budget is None:
            return None
        parts = re.findall(r"(\d+)([hms])", self.budget)
        return float(sum(int(number) * _SECONDS[unit] for number, unit in parts))

    @property
    def base(self) -> list[str]:
        """The overrides of all trials, with the first template if templates are searched."""
        templates = self.search.get("template")
        names = templates.get("choices") if isinstance(templates, Mapping) else templates
        first = [f"template={names[0]}"] if isinstance(names, list) and names else []
        return [*self.overrides, *first]

    def shareable(self) -> dict[str, Any]:
        """Return plain data without the database's address, which may hold a password."""
        return self.model_dump(mode="json", exclude={"storage"})

    def identity(self) -> dict[str, Any]:
        """Return the values that must stay the same when a sweep is resumed."""
        keys = {"objective", "search", "overrides", "seed", "constraints", "sampler", "pruner"}
        keys |= {"sampler_options", "pruner_options", "pruner_warmup"}
        keys |= {"fidelity", "promote_each", "prior", "prior_confidence"}
        return self.model_dump(include=keys)

    def comparable(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return an identity with the present names of config keys, without the tracking store."""
        return comparable_identity(identity)

    def key(self, name: str) -> str:
        """Return the name of a setting as the user writes it."""
        return f"sweep.{name}"

    def retry_command(self, folder: Path) -> str:
        """Return the command that enqueues the failed trials again."""
        return steering_command("retry", self.name, folder)


_SECONDS = {"h": 3600, "m": 60, "s": 1}


def load_spec(name: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file: a path, or `sweeps/NAME.yaml`, of the user or shipped.

    Args:
        overrides: `sweep.KEY=VALUE` changes the file; other overrides apply to every trial.

    Raises:
        ConfigError: there is no such sweep, or a key or value is wrong.
    """
    path = find_sweep(name)
    data: dict[str, Any] = {"name": path.stem, **read_yaml(path)}
    refuse_secrets(data, str(path))
    of_sweep = [o for o in overrides if split_word(o).path[0] == "sweep"]
    of_trials = [o for o in overrides if o not in of_sweep]
    data = _with_overrides(data, of_sweep)
    data["overrides"] = [*(data.get("overrides") or []), *of_trials]
    announce(_keys_in(data))
    spec = parse_settings(SweepSpec, data, where=str(path))
    for group in ("launcher", "sampler", "pruner"):
        find(group, getattr(spec, group), f"sweep.{group}")
    _check_objectives(spec)
    return spec


def _keys_in(data: Mapping[str, Any]) -> list[str]:
    """Return the config keys that a sweep file names."""
    keys: list[str] = []
    for item in [data.get("search"), data.get("prior"), *(data.get("enqueue") or [])]:
        if isinstance(item, Mapping):
            keys += [str(key) for key in item]
    return [*keys, *keys_of(data.get("overrides") or [])]


def steering_command(verb: str, name: str, folder: Path) -> str:
    """Return the command that steers a sweep from another shell.

    Args:
        folder: of the sweep, under the root of its store.
    """
    return command(verb, name, tracking=TrackingConfig(root=str(folder.parent.parent)))


def _check_objectives(spec: SweepSpec) -> None:
    """Check that the pruner and the sampler fit the objectives."""
    first = spec.objectives[0]
    if spec.fidelity is not None and not first.each_epoch:
        raise ConfigError(
            f"sweep '{spec.name}': sweep.fidelity={spec.fidelity} needs an objective that is known "
            f"after each epoch, and {first.name} is measured at the end. Leave fidelity out."
        )
    if spec.stop_when is not None and first.name.startswith("cost/"):
        raise ConfigError(
            f"sweep '{spec.name}': sweep.stop_when counts points of a val metric, and {first.name} "
            "is none. Leave stop_when out, or name a val metric first."
        )
    if spec.pruner != "none" and not first.each_epoch:
        raise ConfigError(
            f"sweep '{spec.name}': sweep.pruner={spec.pruner} needs an objective that is known "
            f"after each epoch, and {first.name} is measured at the end. Set sweep.pruner=none, or "
            "name another objective first."
        )
    if spec.sampler == "cmaes" and len(spec.objectives) > 1:
        raise ConfigError(
            f"sweep '{spec.name}': sweep.sampler=cmaes takes one objective; take tpe, gp, random, "
            "qmc or grid."
        )


def find_sweep(name: str) -> Path:
    """Return the file of a sweep.

    Raises:
        ConfigError: there is no such file.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"sweep file '{name}' does not exist.")
    for folder in _folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise ConfigError(f"sweep '{name}' is not in sweeps/; {nearest(name, sweep_names())}")


def sweep_names() -> list[str]:
    """Return the names of all sweep files, the user's and the shipped ones."""
    names: set[str] = set()
    for folder in _folders():
        names |= {path.stem for path in folder.glob("*.yaml")}
    return sorted(names)


def _folders() -> tuple[Path, Path]:
    return Path("sweeps"), shipped("sweeps")


def _with_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    values = OmegaConf.create(data)
    for word in assignments(SweepSpec, overrides, prefix="sweep"):
        if not word.path:
            example = command("sweep", str(word.value))
            raise ConfigError(f"{word.text}: name the sweep without a key, as: {example}")
        if word.path[0] == "search" and len(word.path) > 1:
            # search keys hold dots themselves: sweep.search.hp.width=[16,24]
            values.search[".".join(word.path[1:])] = word.value
        else:
            assign(values, word)
    changed = OmegaConf.to_container(values, resolve=False)
    assert isinstance(changed, dict)
    return {str(key): value for key, value in changed.items()}
