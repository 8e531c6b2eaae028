"""The groups of parts, and how segtune calls a part of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """The contract of a group.

    Attributes:
        form: how segtune calls a part, for messages.
        given: number of positional arguments that segtune gives a function; the other arguments are
            the part's options.
        given_to_class: the same number for the constructor of a class.
        context: keyword arguments that segtune gives to parts that declare them.
    """

    form: str
    given: int
    given_to_class: int = 0
    context: tuple[str, ...] = ()


GROUPS: dict[str, Group] = {
    "architecture": Group(
        "factory(num_classes, **options) -> torch.nn.Module", 1, 1, ("pretrained",)
    ),
    "loss": Group("loss(logits, mask, ignore_index) -> scalar", 3, 0, ("context",)),
}
"""Name of a group -> its contract."""
