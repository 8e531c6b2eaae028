"""The composition root of a training: config -> components -> epochs -> segmenter -> result."""

import copy
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext

from segtune.config.commands import command
from segtune.config.schema import RunConfig
from segtune.errors import Interrupted, LeaseLost, SegtuneError
from segtune.models.cost import measure_cost
from segtune.runtime.exclusive import only_training
from segtune.runtime.log import Log, silent
from segtune.runtime.memory import kept_memory
from segtune.runtime.signals import StopRequest
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store
from segtune.training.active_run import ActiveRun
from segtune.training.best_segmenter import save_best_segmenter
from segtune.training.callbacks import StopTraining
from segtune.training.checkpoints import remove_checkpoints
from segtune.training.components import RunComponents, prepare
from segtune.training.epochs import train_epochs
from segtune.training.loggers import LoggedRun, Loggers
from segtune.training.opening import check_data, open_run
from segtune.training.ranks import check_start_of_processes, decisions, follow_first_process, rank
from segtune.training.request import RunHooks, RunRequest
from segtune.training.result import RunResult
from segtune.training.resuming import with_recorded_epochs
from segtune.training.time_budget import within_minutes


@only_training()
@kept_memory()
def fit(
    config: RunConfig,
    request: RunRequest | None = None,
    hooks: RunHooks | None = None,
    *,
    stop: StopRequest | None = None,
    say: Log = silent,
) -> RunResult:
    """Fine-tune one model, track the run, and save the segmenter of the best epoch.

    Args:
        config: as composed, or as an earlier run recorded it.
        request: the run to write to; by default a new one.
        hooks: functions to call while the run trains.
        stop: asks the run to end early; by default Ctrl-C and SIGTERM do.

    Raises:
        ConfigError: the config cannot be built or trained, or this process trains already.
        DataError: the dataset, or the checkpoint to resume from, cannot be used.
        Interrupted: the user stopped the run; the message holds the command that resumes it.
        LeaseLost: raised by a hook; the run is left as it is.
    """
    started = time.monotonic()
    request, hooks, stop = request or RunRequest(), hooks or RunHooks(), stop or StopRequest()
    check_start_of_processes()
    store = open_store(config.tracking)  # first: without a store all other work would be lost
    if rank():
        follow_first_process()
        config, say = decisions().applied_to(config), silent
    else:
        config = with_recorded_epochs(store, config, request.resume, request.parent)
    components = within_minutes(prepare(config, say), started, say)
    if request.same_data_as:
        check_data(components, get_run(store, request.same_data_as))
    with ExitStack() as locks:
        writer = open_run(store, components, request, locks, say)
        loggers = _loggers(writer, components, say)
        run = ActiveRun(components, writer, hooks, stop, say, started, loggers)
        hooks.on_start(writer.run_id)
        try:
            loggers.open()
            with stop.listening() if rank() == 0 else nullcontext():
                result = _train(run, request)
                _finish(run, request, result)
                return result
        except LeaseLost:
            raise
        except BaseException as error:
            _record_failure(run, error)
            raise


def _loggers(writer: RunWriter, components: RunComponents, say: Log) -> Loggers:
    """The loggers of a run; the first of several processes logs."""
    config = components.config
    name = f"{config.template['name']}-{config.dataset.name}-{writer.run_id[:8]}"
    run = LoggedRun(writer.run_id, name, writer.folder, config.model_dump(mode="json"))
    return Loggers({} if rank() else config.tracking.loggers, run, say)


def _train(run: ActiveRun, request: RunRequest) -> RunResult:
    cost = violated_constraints(run.components, run.writer, request.cost_limits)
    if cost:
        return run.result("infeasible", {}, cost)
    training = train_epochs(run, request)
    if rank():  # Lightning started this process; the first process does the rest
        raise SystemExit(0)
    if training.pruned:
        return run.result("pruned", {"val/miou": training.best_miou})
    return save_best_segmenter(run, training)


def violated_constraints(
    components: RunComponents, writer: RunWriter, limits: Mapping[str, float]
) -> dict[str, float]:
    """Measure and record the cost of the built model.

    Returns:
        The cost if it exceeds a limit, else an empty dictionary.
    """
    if not limits:
        return {}
    model = copy.deepcopy(components.model)
    cost = measure_cost(
        model, components.batch_shape, components.val_size, components.device, limits
    )
    writer.metrics({f"cost/{name}": value for name, value in cost.items()}, 0)
    return cost if any(cost[name] > limit for name, limit in limits.items()) else {}


def _finish(run: ActiveRun, request: RunRequest, result: RunResult) -> None:
    """Mark the run finished; remove the checkpoints of a run that nobody can extend."""
    run.hooks.check_lease()
    run.hooks.commit(result)
    run.loggers.finish(result.state)
    run.writer.finish(result.state)
    # the trials of a sweep are never extended, and there may be hundreds of them
    if not (result.state == "pruned" and run.hooks.may_go_on()):
        remove_checkpoints(run.folder, request.parent is not None or result.state != "finished")
    run.say(result.summary)


def _record_failure(run: ActiveRun, error: BaseException) -> None:
    """Mark a run that raised an error as interrupted or failed.

    Raises:
        Interrupted: in place of the error, if somebody asked the run to stop.
    """
    if rank():
        if isinstance(error, SegtuneError):  # the first process raises it, too, and reports it
            raise SystemExit(1) from None
        return
    # a signal between two steps ends Lightning's loop with SystemExit
    signalled = run.stop.requested and isinstance(error, SystemExit)
    if signalled or isinstance(error, StopTraining | KeyboardInterrupt):
        run.hooks.check_lease()
        run.loggers.finish("interrupted")
        run.writer.finish("interrupted")
        run_id = run.writer.run_id
        resume = command("train", tracking=run.components.config.tracking, resume=run_id)
        raise Interrupted(
            f"run {run_id} was stopped. Continue from its last checkpoint: {resume}"
        ) from None
    run.hooks.check_lease()
    run.loggers.finish("failed")
    run.writer.finish("failed")
