"""Record what produced a run: code version, uncommitted changes, libraries and machine."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

_LIBRARIES = (
    "segtune",
    "torch",
    "pytorch-lightning",
    "timm",
    "segmentation-models-pytorch",
    "torchmetrics",
    "optuna",
    "mlflow",
    "hydra-core",
    "numpy",
    "opencv-python-headless",
    "pillow",
)


def environment() -> dict[str, Any]:
    """Return Python, platform, processors and the versions of the libraries that affect results."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "libraries": versions,
    }


_NO_PROGRAMS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "diff.external": "",
}
"""Settings with which a repository's own config can make Git start a program."""
_NO_NETWORK = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "HEAD")


def git_state(with_diff: bool = True) -> dict[str, str]:
    """Return `commit` and `diff`, the uncommitted changes, of the working folder's repository.

    Empty outside a repository; without `diff` if it is not wanted or cannot be read safely.

    The folder may come from somebody else: no program that its repository's config names is run.

    Args:
        with_diff: read the changes of tracked files; untracked files are never read.
    """
    commit = _git({}, "rev-parse", "HEAD")
    if commit is None:
        return {}
    state = {"commit": commit.strip()}
    # a filter rewrites the content of files before they are compared
    filters = _filters_of_repository() if with_diff else None
    diff = None if filters is None else _git(filters, *_DIFF)
    return state if diff is None else state | {"diff": diff}


def _filters_of_repository() -> dict[str, str] | None:
    """Return settings that turn off the filters in the repository's own config.

    The user's own filters, as Git LFS installs them, stay. None if the config cannot be read.
    """
    listed = _git({}, "config", "--list", "--show-scope", "--name-only", "-z")
    if listed is None:
        return None
    words = listed.split("\0")
    settings = {}
    for scope, name in zip(words[::2], words[1::2], strict=False):
        if scope in ("local", "worktree") and name.startswith("filter."):
            if "=" in name:  # `git -c` cannot name it
                return None
            settings[name] = "false" if name.endswith(".required") else ""
    return settings


def _git(settings: Mapping[str, str], *words: str) -> str | None:
    """Run Git with additional settings; return its output, or None if it fails."""
    command = ["git"]
    for name, value in (_NO_PROGRAMS | dict(settings)).items():
        command += ["-c", f"{name}={value}"]
    try:
        result = subprocess.run(
            [*command, *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=os.environ | _NO_NETWORK,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return result.stdout if result.returncode == 0 else None
