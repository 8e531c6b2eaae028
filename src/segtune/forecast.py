"""How long a run will take, from a few steps of it."""

import time

import torch

from segtune.models.losses import SegmentationLoss
from segtune.models.optim import build_optimizer
from segtune.settings import RunConfig
from segtune.setup import prepare

_STEPS = 3


def forecast_seconds(config: RunConfig) -> float:
    """Seconds that a run will take at most: its epochs at their largest crops, and its validations.

    Takes a step to warm up and three that count; nothing is trained, recorded or kept.

    Raises:
        ConfigError: what cannot be built as configured.
        DataError: a dataset that cannot be used.
    """
    setup = prepare(config, lambda _: None)
    model, loss = setup.model, SegmentationLoss(config.loss, setup.train.class_shares(len(setup.classes)))
    memory_format = torch.channels_last if setup.how.channels_last else torch.contiguous_format
    model = model.to(setup.device).to(memory_format=memory_format)
    optimizer = build_optimizer(config.optimizer, model, setup.lr)
    image = torch.zeros(setup.batch_shape, dtype=torch.uint8, device=setup.device)
    mask = torch.zeros((setup.batch_shape[0], *setup.batch_shape[2:]), dtype=torch.uint8, device=setup.device)
    batch = setup.kind.collate({"image": image, "mask": mask})
    times = []
    for _ in range(_STEPS + 1):
        started = time.perf_counter()
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.how.bf16):
            torch.autograd.backward(setup.kind.loss_of(model, loss, batch))
        optimizer.step()
        optimizer.zero_grad()
        _wait(setup.device)
        times.append(time.perf_counter() - started)
    step = min(times[1:])
    validation = _validation_seconds(model, setup.val_size, setup.batch_size, setup.device)
    steps = config.trainer.limit_train_batches or max(1, len(setup.train) // setup.batch_size)
    epochs = int(config.hp["num_epochs"])
    batches = -(-len(setup.val) // setup.batch_size)
    return float(epochs * steps * step + (epochs // config.trainer.val_every + 1) * batches * validation)


@torch.inference_mode()
def _validation_seconds(model: torch.nn.Module, size: tuple[int, int], batch_size: int, device: torch.device) -> float:
    model.eval()
    image = torch.zeros((batch_size, 3, *size), dtype=torch.uint8, device=device)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        model(image)
        _wait(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
