"""Transforms of torchvision as an augmentation: image and mask together, no code of others."""

import sys
import types

import numpy as np
import pytest
import torch

from segtune.config.compose import compose
from segtune.config.schema import AugmentConfig
from segtune.data.batches.libraries import Albumentations, Torchvision
from segtune.data.batches.transforms import Augment
from segtune.errors import ConfigError
from segtune.testing import check_augmentation

MASK = np.random.default_rng(0).integers(0, 5, (48, 64)).astype(np.uint8)
IMAGE = np.repeat(MASK[..., None] * 40, 3, axis=2)


def changed(*steps, seed=0):
    augment = Augment(AugmentConfig(parts={"torchvision": {"steps": list(steps)}}), (48, 64), 1)
    return augment(IMAGE, MASK, 0, 0, np.random.default_rng(seed))


def test_a_flip_of_torchvision_moves_image_and_mask_together():
    image, mask = changed({"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 1})
    np.testing.assert_array_equal(image, IMAGE[:, ::-1])
    np.testing.assert_array_equal(mask, MASK[:, ::-1])


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "RandomRotation", "degrees": [30, 40]},
        {"_target_": "RandomPerspective", "distortion_scale": 0.6, "p": 1.0, "fill": 0},
        {
            "_target_": "RandomApply",
            "p": 1.0,
            "transforms": [{"_target_": "RandomAffine", "degrees": 0, "translate": [0.4, 0.4]}],
        },
    ],
    ids=["rotation", "perspective", "nested"],
)
def test_what_a_transform_uncovers_is_ignored(step):
    black = np.zeros_like(MASK)
    part = Torchvision([step])
    _, mask = part(IMAGE.copy(), black, np.random.default_rng(1))
    assert set(np.unique(mask)) == {0, 255}
    check_augmentation(Torchvision, steps=[step])


def test_the_generator_alone_decides_and_torchs_own_state_stays():
    step = {"_target_": "RandomPhotometricDistort", "p": 1.0}
    torch.manual_seed(5)
    first = changed(step, seed=1)[0]
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    torch.manual_seed(77)
    np.testing.assert_array_equal(changed(step, seed=1)[0], first)
    assert (changed(step, seed=2)[0] != first).any()


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ({"_target_": "os.system", "command": "true"}, "no transform"),
        ({"_target_": "torchvision.io.read_image"}, "no transform"),
        ({"_target_": "RandomHorizontalFlop"}, "RandomHorizontalFlip"),
        ({"_target_": "RandomRotation", "angle": 3}, "angle"),
        ({"_target_": "Resize", "size": [10, 10]}, "sizes and types must stay"),
        ({"_target_": "ToDtype", "dtype": None}, "ToDtype"),
    ],
)
def test_what_is_no_transform_of_the_library_is_refused(step, found):
    with pytest.raises(ConfigError, match=found):
        changed(step)


def test_a_list_is_written_on_the_command_line():
    steps = "augment.parts={torchvision:{steps:[{_target_:RandomRotation,degrees:10}]}}"
    config = compose(["dataset=street", steps]).config.augment
    assert config.parts["torchvision"]["steps"] == [{"_target_": "RandomRotation", "degrees": 10}]


def test_without_albumentations_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ConfigError, match="pip install albumentations"):
        Albumentations([])


def test_albumentations_gets_image_mask_and_a_seed(monkeypatch):
    """A stand-in with the calls that the library documents."""
    library = types.ModuleType("albumentations")

    class BasicTransform:
        pass

    class Shift(BasicTransform):
        def __init__(self, by: int = 1, fill_mask: int = 0) -> None:
            self.by, self.fill_mask = by, fill_mask

    class Compose:
        def __init__(self, steps):
            self.steps = steps

        def set_random_seed(self, seed):
            self.seed = seed

        def __call__(self, image, mask):
            (step,) = self.steps
            mask[:, : step.by] = step.fill_mask
            return {"image": np.roll(image, self.seed, 1), "mask": mask}

    for kind in (BasicTransform, Shift, Compose):
        setattr(library, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "albumentations", library)
    check_augmentation(Albumentations, steps=[{"_target_": "Shift", "by": 2}])
