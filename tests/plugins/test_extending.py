"""The examples of docs/extending.md: each registers a part, and a training uses it."""

import re
from pathlib import Path

import pytest

import segtune
from segtune.plugins.loading import load_plugins
from tests.conftest import TINY

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(r"\n## (\S[^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```", PAGE, re.DOTALL)
)
TRAINED_WITH = {
    "Architecture": ["template=TwoLayers"],
    "Loss": ["loss.terms={cross_entropy: 1, squared: 0.5}", "loss.options.squared.power=3"],
}
USABLE_BY_ALL = [w for w in TINY if not w.startswith(("template", "hp.width", "hp.num_epochs"))]


def test_no_example_is_long():
    assert EXAMPLES
    assert all(len(code.splitlines()) <= 30 for code in EXAMPLES.values())
    assert set(TRAINED_WITH) <= set(EXAMPLES)


@pytest.mark.parametrize("title", TRAINED_WITH)
def test_the_example_of_a_group_trains(title, tmp_path):
    path = tmp_path / "page_example.py"
    path.write_text(EXAMPLES[title], encoding="utf-8")
    load_plugins([str(path)])
    words = [*USABLE_BY_ALL, "hp.num_epochs=1", *TRAINED_WITH[title]]
    result = segtune.train(*words, f"tracking.root={tmp_path}/store", say=lambda _: None)
    assert result.state == "finished"
