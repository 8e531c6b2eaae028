"""Questions on a terminal."""

import io
import sys

import pytest

from segtune.cli.asking import terminal_ask
from segtune.errors import ConfigError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "place"), [("2\n", 1), ("x\n0\n9\n\n1\n", 0)])
def test_a_question_is_asked_until_a_number_answers(typed, place, monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", shown)
    ask = terminal_ask()
    assert ask is not None and ask("Which one?", ["first", "second"]) == place
    assert "Which one?" in shown.getvalue() and "2: second" in shown.getvalue()


def test_an_end_of_input_is_no_answer(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr(sys, "stderr", Terminal())
    ask = terminal_ask()
    assert ask is not None
    with pytest.raises(ConfigError, match="no answer"):
        ask("Which one?", ["first", "second"])


def test_nobody_is_asked_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert terminal_ask() is None
