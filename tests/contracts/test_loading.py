"""Whoever only segments pays for nothing else."""

import subprocess
import sys

PROBE = """
import sys, numpy as np, segtune
found = segtune.load(sys.argv[1]).segment(np.zeros((48, 64, 3), np.uint8))
assert found.mask.shape == (48, 64) and found.regions
heavy = ("pytorch_lightning", "hydra", "omegaconf", "mlflow", "optuna", "pymatting", "skimage")
print([m for m in heavy if m in sys.modules])
"""


def test_a_folder_is_loaded_and_used_without_lightning_hydra_or_mlflow(tiny_run):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(tiny_run.segmenter)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
