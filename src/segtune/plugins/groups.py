"""The groups of parts, and how segtune calls a part of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """The contract of a group.

    Attributes:
        form: how segtune calls a part, for messages.
        given: number of positional arguments that segtune gives a function; the other arguments are
            the part's options.
        given_to_class: the same number for the constructor of a class.
        context: keyword arguments that segtune gives to parts that declare them.
        methods: functions that the part itself must have; it is then never called.
    """

    form: str
    given: int
    given_to_class: int = 0
    context: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


GROUPS: dict[str, Group] = {
    "architecture": Group(
        "factory(num_classes, **options) -> torch.nn.Module", 1, 1, ("pretrained",)
    ),
    "loss": Group("loss(logits, mask, ignore_index) -> scalar", 3, 0, ("context",)),
    "optimizer": Group(
        "factory(params, lr, **options) -> torch.optim.Optimizer", 2, 2, ("context",)
    ),
    "scheduler": Group("decay(progress, **options) -> factor", 1, 0, ("context",)),
    "augmentation": Group("change(image, mask, rng, **options) -> (image, mask)", 3),
    "metric": Group("metric(evidence) -> number, class -> number, or None", 1),
    "callback": Group("factory(**options) -> pytorch_lightning.Callback", 0),
    "logger": Group("factory(run, **options) -> segtune.training.loggers.RunLogger", 1, 1),
    "reader": Group(
        "class with the static methods find_files(folder) and read(folder, config)",
        0,
        methods=("find_files", "read"),
    ),
    "writer": Group(
        "text(image, regions, **options) -> str, or a class of the options that derives from "
        "segtune.inference.prediction.formats.Format",
        2,
    ),
    "engine": Group(
        "factory(model, size, **options) -> segtune.inference.engines.engine.Eager",
        2,
        2,
        ("graphs", "say"),
    ),
    "sampler": Group("factory(seed, **options) -> optuna.samplers.BaseSampler", 1, 1),
    "pruner": Group("factory(**options) -> optuna.pruners.BasePruner", 0, 0, ("context",)),
    "launcher": Group("launch(task, tick, log)", 3),
}
"""Name of a group -> its contract."""
