"""A drawing of the rooms of src/segtune, from the imports of its files."""

import ast
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

_HEAVY = "mlflow optuna hydra pytorch_lightning torch timm fastapi jinja2 plotly pydantic".split()
_WIDTH, _ROW, _BOX = 760, 78, (118, 46)  # pixels


def drawing(package: Path) -> str:
    """Return an SVG: a room stands above every room that it imports."""
    below, libraries = _imports(package)
    order = list(TopologicalSorter(below).static_order())  # raises CycleError
    heights: dict[str, int] = {}
    for room in order:
        heights[room] = 1 + max((heights[other] for other in below[room]), default=-1)
    highest = max(heights.values())
    places = {}
    for height in range(highest + 1):
        row = sorted(room for room, h in heights.items() if h == height)
        for n, room in enumerate(row):
            places[room] = ((n + 0.5) * _WIDTH / len(row), 40 + (highest - height) * _ROW)
    parts = [
        _line(places[room], places[other])
        for room in order
        for other in sorted(_direct(room, below))
    ]
    parts += [_box(room, *places[room], sorted(libraries[room])) for room in order]
    size = f"0 0 {_WIDTH} {(highest + 1) * _ROW}"
    title = "The rooms of segtune; each imports only rooms below it"
    body = "".join(parts)
    return f'<svg class="rooms" viewBox="{size}" role="img" aria-label="{title}">{body}</svg>'


def _imports(package: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return room -> rooms that it imports, and room -> large libraries that it imports."""
    rooms = {p.name for p in package.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    rooms |= {"classes", "errors"}
    below: dict[str, set[str]] = {room: set() for room in rooms}
    libraries: dict[str, set[str]] = {room: set() for room in rooms}
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room not in rooms:
            continue
        for module in _modules(path):
            first, *rest = module.split(".")
            if first == "segtune" and rest and rest[0] in rooms - {room}:
                below[room].add(rest[0])
            elif first in _HEAVY:
                libraries[room].add(first)
    return below, libraries


def _modules(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _direct(room: str, below: dict[str, set[str]]) -> set[str]:
    """Return the imports of a room that no other one of its imports has as well, far below."""
    return {o for o in below[room] if not any(_reaches(p, o, below) for p in below[room] - {o})}


def _reaches(room: str, other: str, below: dict[str, set[str]]) -> bool:
    return other in below[room] or any(_reaches(next_, other, below) for next_ in below[room])


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    half = _BOX[1] / 2
    ends = f'x1="{start[0]:.0f}" y1="{start[1] + half}" x2="{end[0]:.0f}" y2="{end[1] - half}"'
    return f"<line {ends}/>"


def _box(room: str, x: float, y: float, libraries: list[str]) -> str:
    width, height = _BOX
    corner = f'x="{x - width / 2:.0f}" y="{y - height / 2:.0f}"'
    name_y = y - 2 if libraries else y + 5
    words = escape(", ".join(libraries).replace("pytorch_lightning", "lightning"))
    return (
        f'<rect {corner} width="{width}" height="{height}" rx="6"/>'
        f'<text x="{x:.0f}" y="{name_y:.0f}">{escape(room)}</text>'
        f'<text class="libraries" x="{x:.0f}" y="{y + 14:.0f}">{words}</text>'
    )
