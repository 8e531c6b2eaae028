"""A password in the tracking server's address reaches the server, and nothing that is recorded."""

import os
from pathlib import Path

import pytest

from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.runtime.addresses import PASSWORD, move_passwords, with_password
from segtune.tracking.run_table import table_command
from segtune.tracking.store import Store
from tests.sweeping.test_study import make_spec

MASKED = "http://me@host:5000/a?b=c"


@pytest.fixture(autouse=True)
def no_password(monkeypatch):
    monkeypatch.setenv(PASSWORD, "")


@pytest.mark.parametrize(
    ("password", "meaning"), [("hush", "hush"), ("hu:s@h", "hu:s@h"), ("hu%2Fsh", "hu/sh")]
)
@pytest.mark.parametrize(
    "word",
    [
        "tracking.uri={}",
        "+tracking.uri='{}'",
        'tracking={{uri:"{}"}}',
        "tracking.uri=mysql+{}",
        "mlflow_uri={}",
    ],
)
def test_a_password_in_a_word_is_moved_to_the_environment(word, password, meaning):
    words = [word.format(MASKED.replace("me@", f"me:{password}@")), "seed=3"]
    assert move_passwords(words) == [word.format(MASKED), "seed=3"]
    assert os.environ[PASSWORD] == meaning
    address = with_password(MASKED)
    assert address != MASKED and move_passwords([f"tracking.uri={address}"]) == [
        f"tracking.uri={MASKED}"
    ]
    assert os.environ[PASSWORD] == meaning


@pytest.mark.parametrize(
    "address", ["http://host", "http://me@host/a:b@c", "sqlite:////a/b.db", "x"]
)
def test_an_address_without_a_password_stays(address):
    assert move_passwords([f"tracking.uri={address}"]) == [f"tracking.uri={address}"]
    assert TrackingConfig(uri=address).uri == address and os.environ[PASSWORD] == ""


def test_neither_a_config_nor_a_study_holds_a_password():
    word = "tracking.uri=http://me:hush@host"
    composed = compose(["dataset=street", word])
    spec = make_spec(overrides=[word])
    recorded = [composed.overrides, composed.config.model_dump(), spec.shareable(), spec.base]
    assert "hush" not in str(recorded) and str(recorded).count("http://me@host") == 4
    assert with_password(composed.config.tracking.uri) == "http://me:hush@host"


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_the_address_of_the_table_of_runs_holds_no_password(scheme):
    store = Store(Path("mlruns"), f"{scheme}://me:hush@host/a", None, "1", "e")
    shown = " ".join(table_command(store))
    assert "hush" not in shown and "me@host" in shown
