"""Whoever may only read a store sees its sweeps: status, list and compare write nothing there."""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest

from segtune.cli.main import main
from segtune.config.schema import TrackingConfig
from segtune.sweeping.engine.records import RUN
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.launch import _parent_run
from segtune.tracking import store as stores
from segtune.tracking.runs import STUDY_TAG
from segtune.tracking.store import open_store
from tests.report.fakes import fake_run
from tests.sweeping.test_study import LINE, make_spec


@contextmanager
def read_only(root):
    """Make a folder read-only while the block runs; file modes do not bind root, a mount does."""
    modes = {path: path.stat().st_mode for path in [root, *root.rglob("*")]}
    words = ["mount", "--bind", "-o", "ro", str(root), str(root)]
    if os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode:
        pytest.skip("root needs the right to mount a folder read-only")
    try:
        for path, mode in modes.items() if os.geteuid() else ():
            path.chmod(mode & ~0o222)
        with pytest.raises(OSError, match=r"new"):
            (root / "new").touch()
        yield
    finally:
        for path, mode in modes.items() if os.geteuid() else ():
            path.chmod(mode)
        if os.geteuid() == 0:
            subprocess.run(["umount", str(root)], check=True)


def test_status_list_and_compare_read_a_store_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    root = tmp_path / "mlruns"
    store = open_store(TrackingConfig(root=str(root)))
    study = SweepStudy(root / "sweeps" / "t", make_spec(n_trials=2))
    study.begin()
    tags = {STUDY_TAG: study.id, "mlflow.parentRunId": _parent_run(store, study, LINE)}
    for quality in (0.5, 0.6):
        trial = study.claim(LINE).trial
        name = f"t-{trial.number}"
        trial.set_user_attr(RUN, fake_run(store, name, quality, sweep="t", tags=tags))
        study.finish(trial, quality)
    with read_only(root):
        monkeypatch.setattr(stores, "_OPEN_STORES", {})  # as another process
        for command in (
            ["status", "t"],
            ["status"],
            ["list", "sweeps"],
            ["list", "runs"],
            ["compare", "t", "output=report"],
        ):
            assert main([*command, "--json"]) == 0, command
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert rows[0]["trials"]["finished"] == 2 and rows[0]["best"]["val/miou"] == 0.6
        for command in (["stop", "t"], ["retry", "t"]):
            assert main(command) == 5
            assert f"'{root}/sweeps/t/claim.lock' cannot be" in capsys.readouterr().err
