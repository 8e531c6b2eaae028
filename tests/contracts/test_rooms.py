"""No room imports upward or in a circle, and heavy libraries stay in their rooms."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import segtune

ROOT = Path(segtune.__file__).parent
# from top to bottom: a room imports only rooms further down
ROOMS = (
    "__main__ cli api __init__ serving testing automatic report sweeping training evaluation "
    "tracking tasks inference data models measure config plugins pages runtime classes errors"
).split()
HEAVY = {
    "mlflow": {"tracking"},
    "optuna": {"sweeping", "testing"},
    "hydra": {"config"},
    "pytorch_lightning": {"training", "data"},
    "fastapi": {"serving"},
    "uvicorn": {"serving"},
}
NO_TORCH = {
    "cli",
    "api",
    "config",
    "plugins",
    "runtime",
    "classes",
    "errors",
    "sweeping",
    "report",
    "pages",
    "__init__",
}


@cache
def imports() -> list[tuple[Path, str, str, bool]]:
    """Rows (file, room, imported module or name, is the import at the top of the file)."""
    rows = []
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import"
                names = [f"{node.module}.{a.name}" for a in node.names]
            rows += [(path, room, name, node in tree.body) for name in names]
    return rows


def module_of(name: str) -> tuple[str, ...]:
    """Return the parts, below `segtune`, of the module that holds an imported name."""
    parts = name.split(".")[1:]
    while parts and not (
        ROOT.joinpath(*parts).with_suffix(".py").exists() or ROOT.joinpath(*parts).is_dir()
    ):
        parts.pop()
    return tuple(parts)


def test_no_room_imports_one_above_it():
    for path, room, name, _ in imports():
        if not name.startswith("segtune.") or room == "__init__":
            continue
        other = module_of(name)
        if other:
            is_lower = other[0] == room or ROOMS.index(other[0]) > ROOMS.index(room)
            assert is_lower, f"{path} imports {name}"
        else:  # other names of the package are functions of `api`, loaded on first use
            assert name == "segtune.__version__", f"{path} imports {name}"


@pytest.mark.parametrize("depth", [1, 2, 3, 9], ids=["rooms", "packages", "parts", "modules"])
def test_imports_run_in_no_circle(depth):
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path, _, name, _ in imports():
        importer = path.relative_to(ROOT).with_suffix("").parts
        importer = importer[:-1] if path.name == "__init__.py" else importer
        other = module_of(name) if name.startswith("segtune.") else ()
        if importer and other and other[:depth] != importer[:depth]:
            graph.setdefault(importer[:depth], set()).add(other[:depth])
    assert len(graph) > 10
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_package_root_holds_few_files():
    assert len([p for p in ROOT.iterdir() if p.is_file()]) <= 8


def test_heavy_libraries_are_imported_in_their_rooms_alone():
    for path, room, name, _ in imports():
        allowed = HEAVY.get(name.split(".")[0])
        assert allowed is None or room in allowed, f"{path} imports {name}"


def test_lightning_stays_in_the_datamodule_within_data():
    users = {
        p.name
        for p, room, name, _ in imports()
        if room == "data" and name.startswith("pytorch_lightning")
    }
    assert users == {"datamodule.py"}


def test_a_sweep_and_the_command_line_know_no_torch():
    for path, room, name, _ in imports():
        if path.name != "doctor.py":  # it asks torch for the devices of this machine
            assert not (room in NO_TORCH and name.split(".")[0] == "torch"), (
                f"{path} imports {name}"
            )


def test_no_file_is_over_400_lines():
    long = {p.name: n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def functions() -> list[tuple[str, ast.FunctionDef, bool]]:
    """Rows (place, function, has a comment on its first line or on the line above)."""
    rows = []
    for path in ROOT.rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                near = (lines[first - 2], lines[node.lineno - 1])
                rows.append((f"{path.name}: {node.name}", node, any("#" in line for line in near)))
    return rows


def test_a_long_function_or_one_with_many_parameters_gives_a_reason():
    for place, node, explained in functions():
        length = node.end_lineno - node.lineno + 1
        named = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        parameters = [a for a in named if a.arg not in ("self", "cls")]
        fits = length <= 60 and len(parameters) <= 7
        assert fits or explained, f"{place}: {length} lines, {len(parameters)} parameters"
