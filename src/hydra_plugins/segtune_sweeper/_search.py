"""Run an application's trials: each is a Hydra job with its own output folder."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.utils import JobStatus, configure_log, run_job, setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.exceptions import TrialPruned

from hydra_plugins.segtune_sweeper._space import read_space
from segtune.errors import ConfigError, PartialError, StorageError
from segtune.runtime.atomic import atomic_file
from segtune.sweeping.engine.dimensions import Dimension, literal
from segtune.sweeping.engine.running import Trial
from segtune.sweeping.engine.search import SearchResult, run_space
from segtune.sweeping.engine.search_settings import SearchSettings
from segtune.sweeping.engine.space import FlatSpace

log = logging.getLogger(__name__)

_BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
_KEYS = {"name": "study_name", "workers": "n_jobs"}
_MAX_COMPOSED = 50  # choices of one key that are composed before the first trial
_PLACE_FILE = "jobs.json"  # in the study's folder: where the jobs write their output


class SweeperSettings(SearchSettings):
    """The settings of a search, under the names that they have in Hydra's config."""

    def key(self, name: str) -> str:
        """Return the name of a setting as the user writes it."""
        return f"hydra.sweeper.{_KEYS.get(name, name)}"

    def retry_command(self, folder: Path) -> str:
        """Return what the user does to enqueue the failed trials again."""
        return "the same command with hydra.sweeper.retry_failed=true"


@dataclass(frozen=True)
class Application:
    """An application as Hydra hands it to a sweeper."""

    hydra_context: HydraContext
    config: DictConfig
    task_function: TaskFunction


def search(app: Application, given: Mapping[str, Any], arguments: list[str]) -> SearchResult:
    """Run the trials of an application; the same command continues an interrupted search.

    Args:
        given: the fields of `SegtuneSweeperConf`.
        arguments: the words of the command line.

    Raises:
        ConfigError: a setting or a searched key is wrong.
        SegtuneError: see `segtune.sweeping.run`.
    """
    config, loader = app.config, app.hydra_context.config_loader
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    _check_launcher(str(config.hydra.launcher.get("_target_")))
    space = read_space(given.get("params") or {}, arguments, loader)
    _compose_choices(app, space)
    settings = _settings(app, given, space)
    sweep_dir = _sweep_dir(Path(settings.folder), str(config.hydra.sweep.dir))
    sweep_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, sweep_dir / "multirun.yaml")
    objective = partial(_run_trial, app, sweep_dir)
    facts = {"config": _flat(OmegaConf.to_container(_without_hydra(config), resolve=False))}
    log.info("Study: %s, directions: %s", settings.name, list(settings.directions))
    max_failure_rate = _share(given.get("max_failure_rate"))
    result = run_space(objective, space, settings, facts, say=log.info)
    _write_results(sweep_dir, result, len(settings.directions))
    log.info("Best parameters: %s", dict(result.best.params))
    log.info("Best value: %s", ", ".join(str(value) for value in result.best.values))
    counts = result.counts
    if counts.failed > max_failure_rate * counts.done:
        raise PartialError(
            f"{counts.failed} of {counts.done} trials failed, and "
            f"hydra.sweeper.max_failure_rate={max_failure_rate:g}. The lines above give the "
            "reasons."
        )
    return result


def _share(written: Any) -> float:
    """Return the share of trials that may fail."""
    share = 1.0 if written is None else float(written)
    if not 0 <= share <= 1:
        raise ConfigError(f"hydra.sweeper.max_failure_rate={share}: a share in [0, 1] is expected.")
    return share


def _check_launcher(target: str) -> None:
    if target != _BASIC:
        raise ConfigError(
            f"hydra/launcher: {target.rpartition('.')[2]} starts no job of hydra/sweeper=segtune: "
            "its n_jobs workers pull trials. Leave the launcher out. On a cluster, start this "
            "command in several jobs with one hydra.sweeper.storage=postgresql://…"
        )


def _settings(app: Application, settings: Mapping[str, Any], space: FlatSpace) -> SweeperSettings:
    given = {name: _container(value) for name, value in settings.items()}
    sampler, options = _sampler_of(given["sampler"])
    words = [dimension.describe() for dimension in space.dimensions]
    digest = hashlib.sha256(json.dumps([words, list(space.fixed)]).encode()).hexdigest()
    name = given["study_name"] or f"{app.config.hydra.job.name}-{digest[:8]}"
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ConfigError(
            f"hydra.sweeper.study_name='{name}': letters, digits and _.- are allowed."
        )
    return SweeperSettings(
        folder=Path(given["folder"] or f"multirun/studies/{name}").absolute(),
        n_trials=given["n_trials"],
        direction=given["direction"],
        workers=given["n_jobs"],
        name=name,
        overrides=space.fixed,
        sampler=sampler,
        seed=options.pop("seed", 0),
        sampler_options=options,
        pruner=given["pruner"],
        pruner_warmup=given["pruner_warmup"],
        max_retries=given["max_retries"],
        lease=given["lease"],
        allow_drift=given["allow_drift"],
        retry_failed=given["retry_failed"],
        storage=given["storage"],
    )


def _sampler_of(written: Any) -> tuple[str, dict[str, Any]]:
    """Return segtune's name of a sampler, and its options.

    Args:
        written: a name, or a member of `hydra/sweeper/sampler`, which names Optuna's class.

    >>> _sampler_of({"_target_": "optuna.samplers.CmaEsSampler", "seed": 1, "sigma0": None})
    ('cmaes', {'seed': 1})
    >>> _sampler_of("random"), _sampler_of("My_TPE")
    (('random', {}), ('My_TPE', {}))
    """
    node = dict(written) if isinstance(written, dict) else {"_target_": written or "tpe"}
    target = str(node.pop("_target_", "tpe"))
    name = target
    if target.startswith("optuna."):
        name = target.rpartition(".")[2].removesuffix("Sampler").lower()
    options = {str(key): value for key, value in node.items() if value is not None}
    return "tpe" if name == "motpe" else name, options


def _container(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Return a nested config as {dotted key: text}.

    >>> _flat({"data": {"root": "a"}, "lr": 0.1})
    {'data.root': 'a', 'lr': '0.1'}
    """
    if not isinstance(value, dict):
        return {key: str(value)}
    flat: dict[str, str] = {}
    for name, below in value.items():
        flat |= _flat(below, f"{key}.{name}" if key else str(name))
    return flat


def _sweep_dir(folder: Path, configured: str) -> Path:
    """Return the output folder of all jobs: that of the first start, whose name holds its time.

    Raises:
        StorageError: the study's folder cannot be written.
    """
    path = folder / _PLACE_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # two commands may start the study together
            if not path.is_file():
                place = {"sweep_dir": str(Path(configured).absolute())}
                with atomic_file(path, shared=True) as unfinished:
                    unfinished.write_text(json.dumps(place), encoding="utf-8")
            return Path(json.loads(path.read_text(encoding="utf-8"))["sweep_dir"])
    except OSError as error:
        raise StorageError(f"hydra.sweeper.folder '{folder}' cannot be written: {error}.") from None


def _compose_choices(app: Application, space: FlatSpace) -> None:
    """Compose the config with the values of each key once, before each trial fails on them.

    Raises:
        ConfigError: an override that the application's config does not take.
    """
    first = {d.key: _some_values(d)[0] for d in space.dimensions}
    for dimension in space.dimensions:
        for value in _some_values(dimension):
            chosen = {**first, dimension.key: value}
            words = [*space.fixed, *(f"{key}={literal(item)}" for key, item in chosen.items())]
            try:
                app.hydra_context.config_loader.load_sweep_config(app.config, words)
            except (HydraException, OmegaConfBaseException) as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise ConfigError(
                    f"the application's config does not take {' '.join(words)}: {' '.join(lines)}"
                ) from None


def _some_values(dimension: Dimension) -> list[Any]:
    if dimension.choices is not None:
        return list(dimension.choices[:_MAX_COMPOSED])
    return [dimension.low, dimension.high]


def _run_trial(app: Application, sweep_dir: Path, trial: Trial) -> Any:
    """Run the application as Hydra's own launcher does; return what it returns."""
    hydra_context, config = app.hydra_context, app.config
    setup_globals()
    job_config = hydra_context.config_loader.load_sweep_config(config, trial.overrides)
    with open_dict(job_config):
        job_config.hydra.job.id = str(trial.number)
        job_config.hydra.job.num = trial.number
        job_config.hydra.sweep.dir = str(sweep_dir)
    job = run_job(
        hydra_context=hydra_context,
        task_function=app.task_function,
        config=job_config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if job.status == JobStatus.FAILED and isinstance(job._return_value, TrialPruned):
        raise job._return_value
    return job.return_value  # raises the application's error


def _write_results(sweep_dir: Path, result: SearchResult, directions: int) -> None:
    """Write the file that hydra-optuna-sweeper writes."""
    found: Mapping[str, Any] = {
        "best_params": dict(result.best.params),
        "best_value": result.best.value,
    }
    if directions > 1:
        front = [{"params": dict(t.params), "values": list(t.values)} for t in result.front]
        found = {"solutions": front}
    results = OmegaConf.create({"name": "segtune", **found})
    OmegaConf.save(results, sweep_dir / "optimization_results.yaml")
