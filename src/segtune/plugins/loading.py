"""Load plugins: named by the user of this process, or installed as packages.

A plugin is code, so only the user names one: `plugins=` on the command line, the environment
variable SEGTUNE_PLUGINS, an argument of the Python API, or the entry points of an installed package
(group `segtune.plugins`). Models, recorded configs, dataset files and `conf/` folders are data:
nothing that they name is ever imported.
"""

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module, metadata
from pathlib import Path

from segtune.errors import ConfigError
from segtune.plugins.given import GIVEN
from segtune.plugins.registry import before_lookup, plugin_parts

VARIABLE = "SEGTUNE_PLUGINS"
ENTRY_POINTS = "segtune.plugins"
_state = {"is_loaded": False}


def load_plugins(sources: str | Iterable[str]) -> None:
    """Load plugins: paths of Python files, or names of modules; `a.py,b.c` names two.

    Raises:
        ConfigError: a file or module that does not exist, or that fails on import.
    """
    names = sources.split(",") if isinstance(sources, str) else list(sources)
    for name in (name.strip() for name in names):
        if name:
            _load(name)


def needed_plugins() -> list[str]:
    """Return what another process must load to have the parts of this one.

    Raises:
        ConfigError: a part was registered in an interactive session or a script.
    """
    sources = dict(GIVEN)
    for part in plugin_parts():
        assert part.plugin is not None
        if part.plugin.name == "__main__":
            raise ConfigError(
                f"the {part.group} '{part.name}' is registered in the program that runs now, which "
                "other processes cannot import. Move it to a file, and give plugins=FILE.py."
            )
        sources.setdefault(part.plugin.source)
    return list(sources)


def _load_surroundings() -> None:
    """Load the plugins of the environment and of installed packages, once per process."""
    if _state["is_loaded"]:
        return
    _state["is_loaded"] = True
    try:
        load_plugins(os.environ.get(VARIABLE, ""))
        for entry in metadata.entry_points(group=ENTRY_POINTS):
            source = entry.dist.name if entry.dist else entry.value
            _import(entry.module, f"installed plugin '{source}'")
    except ConfigError:
        _state["is_loaded"] = False
        raise


before_lookup(_load_surroundings)


def _load(source: str) -> None:
    is_file = source.endswith(".py") or "/" in source
    path = Path(source).expanduser().absolute()
    key = str(path.resolve()) if is_file else source
    if key not in GIVEN:
        if is_file:
            _load_file(path, source)
        else:
            _import(source, f"plugin '{source}'")
        GIVEN[key] = None


def _load_file(path: Path, source: str) -> None:
    if not path.is_file():
        raise ConfigError(f"plugins={source}: no such file ({path}).")
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        if file is not None and Path(file).resolve() == path.resolve():
            return  # the program has imported it by itself
        raise ConfigError(
            f"plugins={source}: a module with the name '{path.stem}' is loaded already "
            f"({file or 'part of Python'}). Give the file another name."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end: the files beside it hide no installed module
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[path.stem]
        raise _failure(f"plugin '{source}'", error, [str(path)]) from error


def _import(name: str, title: str) -> None:
    if name.partition(".")[0] == "segtune":
        raise ConfigError(f"plugins={name}: segtune's own modules are no plugins.")
    try:
        import_module(name)
    except BaseException as error:
        parents = [name.rsplit(".", count)[0] for count in range(name.count(".") + 1)]
        if isinstance(error, ModuleNotFoundError) and error.name in parents:
            hint = f" For the file here, write plugins={name}.py." if _is_here(name) else ""
            raise ConfigError(
                f"{title}: no module '{error.name}' is installed for {sys.executable}.{hint}"
            ) from None
        spec = importlib.util.find_spec(name.partition(".")[0])
        places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else []
        raise _failure(title, error, places) from error


def _is_here(name: str) -> bool:
    return Path(f"{name}.py").is_file()


def _failure(title: str, error: BaseException, places: Sequence[str]) -> BaseException:
    """Return the error of a plugin's import in one line, with its file and line number."""
    if isinstance(error, KeyboardInterrupt):
        return error
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({error.filename}, line {error.lineno})"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename.startswith(tuple(places))]
        if inside:
            where = f" ({inside[-1].filename}, line {inside[-1].lineno})"
    if isinstance(error, ConfigError):
        return ConfigError(f"{title}: {error}{where}")
    reason = " ".join(str(getattr(error, "msg", None) or error).split())
    return ConfigError(f"{title} fails on import: {type(error).__name__}: {reason}{where}")
