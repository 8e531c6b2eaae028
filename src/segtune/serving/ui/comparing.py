"""The page that compares chosen runs: a form, and the report that `segtune compare` writes."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from segtune.config.commands import command
from segtune.errors import SegtuneError
from segtune.report.compare import compared
from segtune.serving.ui.pages import render
from segtune.sweeping.listing import started_sweeps
from segtune.tracking.store import Store

# the report is one file that holds its scripts
_REPORT_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'self'"
)
Names = Annotated[list[str] | None, Query()]


def routes(store: Store) -> APIRouter:
    """Return the routes of comparisons."""
    router = APIRouter()

    @router.get("/compare")
    def choose(name: Names = None, baseline: str = "", split: str = "val") -> HTMLResponse:
        names = _split_names(name)
        page = render(
            "compare.html.j2",
            names=names,
            baseline=baseline.strip(),
            split=split,
            sweeps=[sweep.name for sweep in started_sweeps(str(store.root))],
            command=command(
                "compare",
                *names,
                tracking=store.tracking,
                baseline=baseline.strip() or None,
                split=split,
            ),
        )
        return HTMLResponse(page)

    @router.get("/compare/report")
    def report(name: Names = None, baseline: str = "", split: str = "val") -> HTMLResponse:
        try:
            page = compared(store, _split_names(name), baseline.strip() or None, split).html
        except SegtuneError as error:  # within the frame: the page around it stays
            return HTMLResponse(render("frame_error.html.j2", message=str(error)), 422)
        return HTMLResponse(page, headers={"Content-Security-Policy": _REPORT_POLICY})

    return router


def _split_names(fields: list[str] | None) -> list[str]:
    """Return the names of the form's fields: each may hold several, separated by blanks."""
    names: dict[str, None] = {}
    for field in fields or []:
        names |= dict.fromkeys(field.split())
    return list(names)
