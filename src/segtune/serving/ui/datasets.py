"""The pages of datasets: splits and reads, the page of the last check, and a sample viewer."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from segtune.config.commands import command
from segtune.config.dataset_schema import DatasetConfig
from segtune.errors import ConfigError, SegtuneError, nearest
from segtune.serving.ui.pages import render
from segtune.serving.ui.runs import splits_of
from segtune.serving.ui.samples import Choice, Samples
from segtune.tracking.datasets import entries, reads_in
from segtune.tracking.listing import list_datasets
from segtune.tracking.recorded import recorded_config
from segtune.tracking.runs import RunRecord, get_run, search_runs
from segtune.tracking.store import Store

# a check is one file that holds its scripts
_CHECK_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_MOST_RUNS = 50  # newest measured runs that the viewer offers
_CHECK_PAGES = {"check": "index.html", "labels": "labels.html"}


def routes(store: Store) -> APIRouter:
    """Return the routes of datasets."""
    router = APIRouter()

    @router.get("/datasets")
    def all_datasets() -> HTMLResponse:
        return HTMLResponse(render("datasets.html.j2", datasets=list_datasets(store)))

    @router.get("/datasets/{name}")
    def one_dataset(name: str) -> HTMLResponse:
        rows, config = _rows(store, name), _config(store, name)
        tags = {"segtune.kind": "dataset", "segtune.dataset.name": name}
        page = render(
            "dataset.html.j2",
            name=name,
            splits=rows,
            reads=reads_in(entries(store, tags)),
            pages={kind: path for kind, path in _pages(store, name).items() if path.is_file()},
            place=config.root if config else "",
            check=command("check", dataset=config, tracking=store.tracking) if config else "",
            runs=_measured_runs(store, name),
        )
        return HTMLResponse(page)

    @router.get("/datasets/{name}/pages/{kind}")
    def check_page(name: str, kind: str) -> HTMLResponse:
        _rows(store, name)
        path = _pages(store, name).get(kind)
        if path is None or not path.is_file():
            raise ConfigError(f"dataset '{name}' has no page '{kind}' in this store.")
        headers = {"Content-Security-Policy": _CHECK_POLICY}
        return HTMLResponse(path.read_text(encoding="utf-8"), headers=headers)

    @router.get("/runs/{run_id}/samples/{split}")
    def samples(
        run_id: str, split: str, of: str = "", sort: str = "worst", page: int = 1
    ) -> HTMLResponse:
        viewer, choice = Samples(store, get_run(store, run_id), split), Choice(of, sort, page)
        rows, pages = viewer.rows(choice)
        values: dict[str, Any] = {"viewer": viewer, "choice": choice, "samples": rows}
        values["rank_labels"] = command("check", "--labels", run=run_id, tracking=store.tracking)
        return HTMLResponse(render("samples.html.j2", **values, pages=pages))

    @router.get("/runs/{run_id}/samples/{split}/{number}/{view}")
    def picture(run_id: str, split: str, number: int, view: str) -> Response:
        viewer = Samples(store, get_run(store, run_id), split)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(viewer.picture(number, view), headers=headers, media_type="image/png")

    return router


def _rows(store: Store, name: str) -> list[dict[str, Any]]:
    rows = list_datasets(store)
    splits = [row for row in rows if row["dataset"] == name]
    if not splits:
        hint = nearest(name, [str(row["dataset"]) for row in rows])
        raise ConfigError(f"no run of this store was measured on a dataset '{name}'; {hint}")
    return splits


def _pages(store: Store, name: str) -> dict[str, Path]:
    """Return where `segtune check` writes its pages: named after the dataset, or after its root."""
    names = [name]
    config = _config(store, name)
    if config is not None and config.root:
        names.append(Path(config.root).name)
    folders = [store.root / "checks" / one for one in names if Path(one).name == one]
    existing = next((folder for folder in folders if folder.is_dir()), None)
    return {k: existing / file for k, file in _CHECK_PAGES.items()} if existing else {}


def _measured_runs(store: Store, name: str) -> list[tuple[RunRecord, list[str]]]:
    """Return the newest runs of a dataset that were measured, each with its splits."""
    runs = [run for run in search_runs(store, {}) if run.params.get("dataset.name") == name]
    measured = [(run, splits_of(run)) for run in reversed(runs)]
    return [(run, splits) for run, splits in measured if splits][:_MOST_RUNS]


def _config(store: Store, name: str) -> DatasetConfig | None:
    """Return a dataset as its newest readable run recorded it."""
    for run, _ in _measured_runs(store, name):
        with suppress(SegtuneError):  # of another version, or with a plugin that is not loaded
            return recorded_config(store, run.id).dataset
    return None
