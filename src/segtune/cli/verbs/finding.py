"""templates and list: show what there is."""

from segtune.cli.declaration import EXPERIMENT, STORE, Call, Outcome, Verb, store_options
from segtune.config.commands import command
from segtune.errors import ConfigError, nearest


def _templates(call: Call) -> Outcome:
    from segtune.api import experiments

    if not call.names:
        found = experiments.templates()
        lines = [f"{t.name:<14} {t.title} ({t.reference})" for t in found]
        return Outcome(
            {"templates": [t.to_json() for t in found]},
            [*lines, f"\n{command('templates', 'NAME')} shows one's hyperparameters."],
        )
    template = experiments.templates(call.one_name("template"))[0]
    lines = [f"{template.title} ({template.reference})", ""]
    for name, declared in template.hyperparameters.items():
        lines.append(
            f"hp.{name:<20} {declared.kind:<10} default {declared.default!s:<12} {declared.allowed}"
        )
        if declared.description:
            lines.append(f"   {'':<20} {declared.description}")
    return Outcome(template.to_json(), lines)


_KINDS = ("runs", "sweeps", "models", "datasets")


def _list(call: Call) -> Outcome:
    from segtune.api import experiments

    kind = call.one_name(f"of {', '.join(_KINDS)}")
    if kind not in _KINDS:
        raise ConfigError(f"'{kind}' cannot be listed; {nearest(kind, _KINDS)}")
    found = experiments.list_entries(kind, **store_options(call))
    return Outcome(found.to_json(), [*found.lines(), *page_lines(found.page)])


def page_lines(page: tuple[str, str]) -> list[str]:
    """How to see the runs in MLflow; no lines where there is no address."""
    serve, address = page
    if not address:
        return []
    return [f"in MLflow: {serve}", f"  then open {address}"] if serve else [f"in MLflow: {address}"]


VERBS = {
    "list": Verb(
        _list,
        "List the runs, sweeps, registered models or datasets of a store, newest first.",
        "segtune list runs",
        names="runs|sweeps|models|datasets",
        options=(*STORE, EXPERIMENT),
    ),
    "templates": Verb(
        _templates,
        "List the templates, or the hyperparameters of one with their ranges.",
        "segtune templates segformer --json",
        names="[TEMPLATE]",
        completes=("template",),
    ),
}
