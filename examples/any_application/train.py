"""An application of your own under `hydra/sweeper=segtune`: see docs/any_application.md.

It fits a line to noisy points by gradient descent. Three calls are all that it takes from segtune:
`current_trial`, `report` and `should_prune`; without a search it runs as any Hydra application.

    python train.py lr=0.1
    python train.py --multirun
"""

import json
import time

import hydra
import numpy as np
from omegaconf import DictConfig

from segtune.sweeping import current_trial


def points(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 200 points (200, 2) and their targets (200,)."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(200, 2))
    return x, x @ [2.0, -1.0] + 0.1 * generator.normal(size=200)


@hydra.main(version_base=None, config_path=".", config_name="config")
def train(cfg: DictConfig) -> float:
    """Return the mean squared error on points that the training does not see."""
    trial = current_trial()  # None without a search
    (x, y), (x_val, y_val) = points(cfg.seed), points(cfg.seed + 1)
    weights, velocity, first = np.zeros(2), np.zeros(2), 0
    state = trial.checkpoint / "state.json" if trial else None
    if trial and trial.resumed:
        saved = json.loads(state.read_text())
        weights, velocity, first = np.array(saved["w"]), np.array(saved["v"]), saved["epoch"]
    loss = float("inf")
    for epoch in range(first, cfg.epochs):
        time.sleep(cfg.seconds_per_epoch)
        gradient = 2 * x.T @ (x @ weights - y) / len(y)
        velocity = cfg.momentum * velocity - cfg.lr * gradient
        weights = weights + velocity
        loss = float(np.mean((x_val @ weights - y_val) ** 2))
        if trial:
            saved = {"w": weights.tolist(), "v": velocity.tolist(), "epoch": epoch + 1}
            unfinished = state.with_suffix(".new")  # a kill never leaves half a checkpoint
            unfinished.write_text(json.dumps(saved))
            unfinished.replace(state)
            trial.report(loss, epoch)
            if trial.should_prune():
                break
    return loss


if __name__ == "__main__":
    train()
