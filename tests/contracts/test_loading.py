"""A process that only segments imports neither trainer nor tracker."""

import subprocess
import sys

import numpy as np

import segtune

PROBE = """
import sys, numpy as np, segtune
segmentation = segtune.load(sys.argv[1]).segment(np.load("image.npy"))
assert segmentation.regions
np.save("mask.npy", segmentation.mask)
heavy = ("pytorch_lightning", "hydra", "omegaconf", "mlflow", "optuna", "pymatting", "skimage")
print([m for m in heavy if m in sys.modules])
"""


def test_a_folder_is_loaded_and_used_without_lightning_hydra_or_mlflow(tiny_run):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    np.save("image.npy", image)
    words = [sys.executable, "-c", PROBE, str(tiny_run.segmenter)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    here = segtune.load(tiny_run.segmenter).segment(image)
    np.testing.assert_array_equal(np.load("mask.npy"), here.mask)
