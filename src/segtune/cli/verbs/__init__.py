"""The verbs by topic: each declares its options and calls its function in `api`."""

from segtune.cli.declaration import Verb
from segtune.cli.verbs import (
    auto,
    comparing,
    configuring,
    data,
    diagnosing,
    finding,
    labelling,
    predicting,
    serving,
    sweeps,
    training,
)

VERBS: dict[str, Verb] = {
    **finding.VERBS,
    **configuring.VERBS,
    **data.VERBS,
    **auto.VERBS,
    **training.VERBS,
    **sweeps.VERBS,
    **comparing.VERBS,
    **predicting.VERBS,
    **labelling.VERBS,
    **serving.VERBS,
    **diagnosing.VERBS,
}
