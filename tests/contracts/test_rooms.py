"""Rooms and doors: nothing imports upward or in a circle, and heavy libraries stay where they belong."""

import ast
from pathlib import Path

import segtune

ROOT = Path(segtune.__file__).parent
# a room stands above all that come after it
ROOMS = (
    "__main__ cli verbs __init__ applying doctor api datasets report sweeping training forecast opening workflows "
    "disputes exporting evaluation features setup callbacks resuming checkpoints task accumulation kinds run_result "
    "tracking inference config data models measure exclusive stopping pace patience host_memory commands "
    "conf_folders strict_json settings dataset_settings template classes aliases quoting filenames errors"
).split()
HEAVY = {
    "mlflow": {"tracking"},
    "optuna": {"sweeping"},
    "hydra": {"config"},
    "pytorch_lightning": {"training", "setup", "callbacks", "checkpoints", "task", "data"},
}
NO_TORCH = {
    "cli",
    "verbs",
    "api",
    "applying",
    "config",
    "settings",
    "commands",
    "conf_folders",
    "dataset_settings",
    "template",
    "classes",
    "aliases",
    "quoting",
    "errors",
    "sweeping",
    "report",
    "__init__",
}


def imports() -> list[tuple[Path, str, str, bool]]:
    """(file, its room, imported module, whether at the top of the file)."""
    rows = []
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            rows += [(path, room, name, node in tree.body) for name in names if name]
    return rows


def test_no_room_imports_one_above_it():
    for path, room, name, _ in imports():
        if name.startswith("segtune."):
            other = name.split(".")[1]
            assert other == room or ROOMS.index(other) > ROOMS.index(room), f"{path} imports {name}"


def test_heavy_libraries_are_imported_in_their_rooms_alone():
    for path, room, name, _ in imports():
        allowed = HEAVY.get(name.split(".")[0])
        assert allowed is None or room in allowed, f"{path} imports {name}"


def test_lightning_stays_in_the_datamodule_within_data():
    users = {p.name for p, room, name, _ in imports() if room == "data" and name.startswith("pytorch_lightning")}
    assert users == {"datamodule.py"}


def test_a_sweep_and_the_command_line_know_no_torch():
    for path, room, name, _ in imports():
        assert not (room in NO_TORCH and name.split(".")[0] == "torch"), f"{path} imports {name}"


def test_no_file_is_over_400_lines():
    long = {p.name: n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long
