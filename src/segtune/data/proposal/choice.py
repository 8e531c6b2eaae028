"""Choose between readings of a dataset that are about as likely: ask, or refuse with all."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from segtune.config.commands import word
from segtune.errors import ConfigError

Ask = Callable[[str, Sequence[str]], int]
"""(question, answers) -> place of the chosen answer, from 0."""


class Answer(NamedTuple):
    """One reading.

    Attributes:
        words: of the command line that choose it.
        evidence: why it may be right.
    """

    words: Sequence[str]
    evidence: str

    def line(self) -> str:
        """The words as a shell takes them, and the evidence."""
        return f"{shlex.join(self.words)}   ({self.evidence})"


def setting_words(settings: dict[str, Any]) -> list[str]:
    """Settings of a dataset as words of the command line.

    >>> setting_words({"mask_suffix": "_gt", "splits": {"val": 0.2}})
    ['dataset.mask_suffix=_gt', 'dataset.splits.val=0.2']
    """
    words = []
    for key, value in settings.items():
        if key == "splits":
            words += [word(f"dataset.splits.{name}", v) for name, v in value.items()]
        else:
            words.append(word(f"dataset.{key}", value))
    return words


def choose(root: str, answers: Sequence[Answer], ask: Ask | None) -> int:
    """The place of the one answer, or of the one that the user chooses.

    Raises:
        ConfigError: there are several and nobody can be asked; it states the words of each.
    """
    if len(answers) == 1:
        return 0
    lines = [answer.line() for answer in answers]
    if ask is not None:
        return ask(f"'{root}' can be read in {len(answers)} ways. Which one is right?", lines)
    listed = "\n".join(f"  {line}" for line in lines)
    raise ConfigError(
        f"'{root}' can be read in {len(answers)} ways that are about as likely. Add the words of "
        f"one to the command:\n{listed}"
    )
