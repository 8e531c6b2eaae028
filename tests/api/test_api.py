"""The functions that Python users call refuse malformed overrides as the command line does."""

import pytest

import segtune
from segtune.api.experiments import LISTED
from segtune.errors import ConfigError
from segtune.tracking.listing import KINDS

FUNCTIONS = {
    "train": [],
    "check": [],
    "evaluate": ["MODEL"],
    "export": ["MODEL"],
    "import_dataset": ["source", "out"],
    "rank_labels": [["RUN"]],
    "plan_sweep": ["quickstart"],
    "sweep": ["quickstart"],
    "promote": ["RUN", "model"],
    "promote_workflow": ["driving", "model"],
    "workflow": ["driving"],
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "word",
    [
        "",
        "=",
        "x",
        "a.b.c",
        "gate.max_ece",
        5,
        None,
        "no_such=1",
        "sweep.no_such=1",
        "gate=",
        " =1",
    ],
)
def test_a_malformed_override_is_a_config_error(name, word, tmp_path):
    (tmp_path / "source" / "images").mkdir(parents=True)
    (tmp_path / "source" / "masks").mkdir()
    with pytest.raises(ConfigError):
        getattr(segtune, name)(*FUNCTIONS[name], word)
    assert not (tmp_path / "mlruns").exists() and not (tmp_path / "out").exists()


def test_every_kind_of_entry_can_be_listed():
    assert set(LISTED) == set(KINDS)
    with pytest.raises(ConfigError, match="did you mean 'runs'"):
        segtune.list_entries("run")
