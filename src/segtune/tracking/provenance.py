"""Record what produced a run: code version, uncommitted changes, libraries and machine."""

import os
import platform
import subprocess
import sys
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


def git_state() -> dict[str, str]:
    """Return commit and uncommitted changes of the working folder; empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit.strip(), "diff": _git("diff", "HEAD") or ""}


def _git(*words: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return result.stdout if result.returncode == 0 else None
