"""Faults that a sweep reports before its first trial."""

import pytest
import torch

from segtune.errors import ConfigError
from segtune.sweeping.launch import run_sweep
from tests.conftest import SCENES

SWEEP = """
name: s
n_trials: 2
search: {template: [swift, linknet], hp.batch_size: [2, 4]}
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"sweep 's': template=linknet: no network"),
        (["hp.pretrained_weights=gone.pt"], r"sweep 's': template=swift: .*gone.pt: no such file"),
        (["trainer.accelerator=gpu"], r"sweep 's': template=swift: .*no CUDA device"),
    ],
)
def test_a_fault_of_all_trials_of_a_template_is_reported_at_once(
    words, message, tmp_path, monkeypatch
):
    def build(model, classes, pretrained=False):
        raise ConfigError("no network")

    if torch.cuda.is_available() and "trainer.accelerator=gpu" in words:
        pytest.skip("there is a GPU")
    monkeypatch.setattr("segtune.tasks.segmentation.Segmentation.build", staticmethod(build))
    path = tmp_path / "s.yaml"
    path.write_text(SWEEP)
    with pytest.raises(ConfigError, match=message):
        run_sweep(str(path), [*SCENES, *words])
