"""serve and ui: answer HTTP requests with a segmenter; show a store as web pages."""

import os
from pathlib import Path

from segtune.cli.declaration import (
    EXPERIMENT,
    RUNTIME_OPTIONS,
    STORE,
    Call,
    Option,
    Outcome,
    Verb,
    store_options,
)
from segtune.errors import ConfigError

# OpenMP's threads wait 0.2 ms for each other, then sleep. By default they wait for milliseconds,
# many times an image where other processes need the processors, too.
_SPINS = "10000"


def _serve(call: Call) -> Outcome:
    if "model" not in call.options:
        raise ConfigError("serve needs model=URI, e.g. model=models:/street@champion.")
    # read when torch is loaded; see LOG.md, "What does an answer over HTTP cost?"
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    from segtune.api.serving import serve
    from segtune.serving.access import TOKEN_VARIABLE
    from segtune.serving.settings import ServerSettings

    values = call.given(*(option.name for option in _LIMITS))
    if "jobs" in values:
        values["jobs"] = Path(values["jobs"])
    settings = ServerSettings(**values, token=os.environ.get(TOKEN_VARIABLE) or None)
    engine = call.given("runtime", "runtime_options")
    serve(call.options["model"], settings, **engine, **store_options(call))
    return Outcome({}, ["the server has ended"])


def _ui(call: Call) -> Outcome:
    from segtune.api.pages import ui
    from segtune.serving.access import TOKEN_VARIABLE
    from segtune.serving.ui.settings import UiSettings

    values = call.given(*(option.name for option in _UI_PLACE))
    settings = UiSettings(**values, token=os.environ.get(TOKEN_VARIABLE) or None)
    ui(settings, **store_options(call))
    return Outcome({}, ["the pages have ended"])


_SETTINGS = "segtune.serving.settings:ServerSettings"
_LIMITS = (
    Option("host", "address; any but loopback needs a token in SEGTUNE_TOKEN", "text", _SETTINGS),
    Option("port", "port; 0 takes a free one", "integer", _SETTINGS),
    Option("queue", "requests in progress at a time; more are refused", "integer", _SETTINGS),
    Option("deadline", "seconds until an answer", "number", _SETTINGS, above=0),
    Option("max_body_mb", "refuse larger request bodies", "number", _SETTINGS, above=0),
    Option("max_pixels", "refuse larger images", "integer", _SETTINGS, above=0),
    Option("poll", "seconds between two looks for a new champion; 0 never", "number", _SETTINGS),
    Option("jobs", "folder of the jobs", "path", _SETTINGS, "DIR", completes="file"),
    Option("jobs_gb", "size of that folder", "number", _SETTINGS, above=0),
)
_UI_SETTINGS = "segtune.serving.ui.settings:UiSettings"
_UI_PLACE = (
    Option(
        "host", "address; any but loopback needs a token in SEGTUNE_TOKEN", "text", _UI_SETTINGS
    ),
    Option("port", "port; 0 takes a free one", "integer", _UI_SETTINGS),
)

VERBS = {
    "serve": Verb(
        _serve,
        "Answer HTTP requests: a page for people, an API for programs.",
        "segtune serve model=models:/street@champion",
        options=(
            Option(
                "model",
                "segmenter or workflow: models:/NAME@champion, runs:/ID, a run's id, or a folder",
                value="URI",
                completes="model",
            ),
            Option(
                "runtime",
                "engine that computes; auto takes the fastest one",
                "text",
                "segtune.inference.options:Options",
                group="engine",
            ),
            RUNTIME_OPTIONS,
            *_LIMITS,
            *STORE,
            EXPERIMENT,
        ),
    ),
    "ui": Verb(
        _ui,
        "Show sweeps as they run, runs, comparisons, datasets and the registry as web pages.",
        "segtune ui port=8100",
        options=(*_UI_PLACE, *STORE, EXPERIMENT),
    ),
}
