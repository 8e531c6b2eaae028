"""templates and list: show the templates, and the entries of a store."""

from segtune.cli.declaration import EXPERIMENT, STORE, Call, Outcome, Verb, store_options
from segtune.config.commands import command


def _templates(call: Call) -> Outcome:
    from segtune.api import experiments

    if not call.names:
        templates = experiments.templates()
        lines = [f"{t.name:<14} {t.title} ({t.reference})" for t in templates]
        lines.append(f"\n{command('templates', 'NAME')} shows the hyperparameters of a template.")
        return Outcome({"templates": [t.to_json() for t in templates]}, lines)
    template = experiments.templates(call.one_name("template"))[0]
    lines = [f"{template.title} ({template.reference})", ""]
    for name, declared in template.hyperparameters.items():
        default = f"default {declared.default!s:<12}"
        lines.append(f"hp.{name:<20} {declared.kind:<10} {default} {declared.allowed}")
        if declared.description:
            lines.append(f"   {'':<20} {declared.description}")
    return Outcome(template.to_json(), lines)


def _list(call: Call) -> Outcome:
    from segtune.api import experiments

    kind = call.one_name(f"of {', '.join(experiments.LISTED)}")
    listing = experiments.list_entries(kind, **store_options(call))
    return Outcome(listing.to_json(), [*listing.lines(), *page_lines(listing.page)])


def page_lines(page: tuple[str, str]) -> list[str]:
    """Return how to see the runs in MLflow; no lines where there is no address.

    Args:
        page: the command that serves the store, empty for a server; and the address of its runs.
    """
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
        "List the templates, or the hyperparameters of one template with their ranges.",
        "segtune templates segformer --json",
        names="[TEMPLATE]",
        completes=("template",),
    ),
}
