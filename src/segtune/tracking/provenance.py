"""What a run was made with: code version, uncommitted changes, libraries and machine."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

_LIBRARIES = ("segtune", "torch", "pytorch-lightning", "timm", "segmentation-models-pytorch", "torchmetrics", "optuna",
              "mlflow", "hydra-core", "numpy", "opencv-python-headless", "pillow")  # fmt: skip


def environment() -> dict[str, Any]:
    """Python, platform, processors and the versions of the libraries that decide a result."""
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
    """Commit and uncommitted changes of the working folder's repository; empty outside of one."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit.strip(), "diff": _git("diff", "HEAD") or ""}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
