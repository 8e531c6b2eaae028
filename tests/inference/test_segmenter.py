"""The segmenter equals a loop in plain torch that shares only the weights file with it."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segtune.data.street.scenes import Scene
from segtune.inference.segmenter import Segmenter
from segtune.models.networks.swift import Swift


def plain_mask(folder, path) -> np.ndarray:
    """Decode, resize, normalise, run the bare network, resize to the image's size, argmax."""
    info = json.loads((folder / "segmenter.json").read_text())
    net = Swift(len(info["classes"]), width=info["model"]["width"], stem=info["model"]["stem"])
    net.load_state_dict(
        {k.removeprefix("net."): v for k, v in load_file(folder / "model.safetensors").items()}
    )
    net = net.eval().to(memory_format=torch.channels_last)
    image = cv2.imread(str(path))[..., ::-1]
    (height, width), side = image.shape[:2], info["image_size"][0]
    scale = side / min(height, width)
    rows, columns = round(height * scale), round(width * scale)
    interpolation = cv2.INTER_AREA if rows * columns < height * width else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(image), (columns, rows), interpolation=interpolation)
    mean, std = (
        torch.tensor(info["preprocessing"][k]).view(1, 3, 1, 1) * 255 for k in ("mean", "std")
    )
    with torch.inference_mode():
        x = (torch.from_numpy(small).permute(2, 0, 1)[None] - mean) / std
        x = torch.nn.functional.pad(x, (0, -columns % 4, 0, -rows % 4))
        logits = net(x)
        size = x.shape[-2:]
        logits = torch.nn.functional.interpolate(
            logits, size=size, mode="bilinear", align_corners=False
        )
        logits = logits[..., :rows, :columns]
        if (rows, columns) != (height, width):
            logits = torch.nn.functional.interpolate(
                logits, size=(height, width), mode="bilinear", align_corners=False
            )
        return logits.softmax(1).argmax(1)[0].to(torch.uint8).numpy()


@pytest.mark.parametrize(("height", "width"), [(64, 96), (150, 203), (48, 61)])
def test_a_loop_in_plain_torch_gives_the_same_mask_bit_for_bit(tiny_run, tmp_path, height, width):
    path = tmp_path / "scene.png"
    Image.fromarray(Scene(11).render(height, width).image).save(path)
    ours = Segmenter.load(tiny_run.segmenter, "cpu").segment(path).mask
    assert len(np.unique(ours)) > 1
    assert np.array_equal(ours, plain_mask(tiny_run.segmenter, path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_missing_is_no_fault_of_the_folder(tiny_run):
    with pytest.raises((RuntimeError, AssertionError)):
        Segmenter.load(tiny_run.segmenter, device="cuda")
