"""Where a reader finds the runs of a report."""

from segtune.report.candidates import Comparison
from segtune.tracking.runs import artifact, find_run
from segtune.tracking.store import Store


def run_links(store: Store, comparison: Comparison) -> dict[str, str]:
    """Return the address of each run, by id: its page on the MLflow server, else its folder.

    A run that was deleted has none.
    """
    runs = list(comparison.others)
    for candidate in comparison.candidates:
        runs += candidate.runs
    links = {}
    for run in runs:
        address = _address(store, run.id)
        if address:
            links[run.id] = address
    return links


def _address(store: Store, run_id: str) -> str:
    if store.address.startswith(("http://", "https://")):
        record = find_run(store, run_id)
        if record is None:
            return ""
        experiment = record.info.experiment_id
        return f"{store.address.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
    path = artifact(store, run_id, "config.yaml")
    return path.parent.absolute().as_uri() if path else ""
