"""templates: show what there is."""

from segtune.commands import command
from segtune.verbs.call import Call, Outcome, Verb


def _templates(call: Call) -> Outcome:
    from segtune import api

    if not call.names:
        found = api.templates()
        lines = [f"{t.name:<14} {t.title} ({t.reference})" for t in found]
        return Outcome(
            {"templates": [t.to_json() for t in found]},
            [*lines, f"\n{command('templates', 'NAME')} shows one's hyperparameters."],
        )
    template = api.templates(call.one_name("template"))[0]
    lines = [f"{template.title} ({template.reference})", ""]
    for name, declared in template.hyperparameters.items():
        lines.append(f"hp.{name:<20} {declared.kind:<10} default {declared.default!s:<12} {declared.allowed}")
        if declared.description:
            lines.append(f"   {'':<20} {declared.description}")
    return Outcome(template.to_json(), lines)


VERBS = {
    "templates": Verb(
        _templates,
        "List the templates, or the hyperparameters of one with their ranges.",
        "segtune templates segformer --json",
        names="[TEMPLATE]",
        completes=("template",),
    ),
}
