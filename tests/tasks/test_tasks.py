"""The loss compares each logit with the label at the same place."""

import pytest
import torch

from segtune.config.compose import compose
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.tasks.task import task_of


class Fixed(torch.nn.Module):
    """Returns its own logits for every image."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, image: torch.Tensor, stride: int) -> torch.Tensor:
        return self.logits


@pytest.mark.parametrize("dim", [1, 2])
def test_labels_at_stride_4_are_those_at_the_places_of_the_logits(dim):
    config = compose(["loss=ce", "loss.stride=4"]).config
    task, loss = task_of(config), SegmentationLoss(config.loss, [0.5, 0.5])
    mask = torch.zeros(1, 36, 36, dtype=torch.uint8)
    mask.narrow(dim, 18, 18).fill_(1)  # the border halves the fifth of nine cells
    model = Fixed(torch.zeros(1, 2, 9, 9))
    torch.manual_seed(0)
    batch = {"image": torch.zeros(1, 3, 36, 36, dtype=torch.uint8), "mask": mask}
    for _ in range(200):
        task.loss_of(model, loss, batch).backward()
    towards_1 = -model.logits.grad[0, 1].mean(2 - dim)
    assert towards_1[5] == pytest.approx(-float(towards_1[3]))
    assert abs(float(towards_1[4])) < 0.2 * float(towards_1[5])
