"""auto: from a folder to a promoted segmenter, in a given time."""

from segtune.cli.asking import terminal_ask
from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.errors import ConfigError, PartialError


def _auto(call: Call) -> Outcome:
    """Exit code 4 if no rule of the gate let the segmenter become champion."""
    from segtune.api.auto import auto
    from segtune.config.compose import compose
    from segtune.tracking.store import open_store
    from segtune.tracking.suggesting import predict_command

    if len(call.names) > 1:
        raise ConfigError(f"give one folder, found {len(call.names)}: {' '.join(call.names)}.")
    options = call.given("minutes", "name", "model")
    source = call.names[0] if call.names else None
    result = auto(*call.overrides, source=source, ask=terminal_ask(), **options)
    store = open_store(compose(_tracking(call)).config.tracking)
    uri = f"runs:/{result.chosen.id}"
    if result.promotion.moved:
        uri = f"models:/{result.promotion.model}@champion"
    lines = [*result.lines(), f"next: {predict_command(store, uri)}"]
    exit_code = 0 if result.promotion.moved else PartialError.exit_code
    return Outcome(result.to_json(), lines, exit_code)


def _tracking(call: Call) -> list[str]:
    return [text for text in call.overrides if text.startswith("tracking")]


VERBS = {
    "auto": Verb(
        _auto,
        "From a folder to a promoted segmenter in the given minutes: look at the data, decide, "
        "search, train, evaluate and promote. The same command goes on after an interruption.",
        "segtune auto dataset=street minutes=5",
        names="[FOLDER]",
        options=(
            Option("minutes", "time for everything", "number", required=True, above=0),
            Option("name", "name of the sweep", default_text="auto-DATASET"),
            Option("model", "name to register the segmenter under", default_text="the dataset's"),
        ),
        passes=("gate", "*"),
        completes=("file",),
    ),
}
