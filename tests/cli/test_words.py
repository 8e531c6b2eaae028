"""Text keys take any word that the shell passes, and printed words are read back."""

import os
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtune.cli.parsing import parse
from segtune.cli.verbs import VERBS
from segtune.config.compose import compose
from segtune.config.conf_files import load_gate
from segtune.config.keys import leaf_keys, text_kind
from segtune.config.schema import RunConfig
from segtune.config.words import read_value, split_word
from segtune.runtime.quoting import quoted, unquoted

KEYS = [k for k in leaf_keys(RunConfig) if text_kind(RunConfig, k.split("."))]
KEY_OF_KIND = {text_kind(RunConfig, key.split(".")): key for key in KEYS}
OPTIONS = []
for verb_name, verb in VERBS.items():
    texts = [o for o in verb.options if o.kind in ("text", "path") and not o.choices]
    OPTIONS += [(verb_name, option.name) for option in texts]
PATHS = [
    *["my dir", "it's", "a[1]", "(x)", "{split}/images", "a=b", "a#b", "a,b", "/data/é", "数据/é"],
    *["C:\\data\\x", "1e3", "true", " lead", "trail ", "$x", "${", "a${b", "100%", "a:b", "~x"],
    *["-x", "a\\", '"half', "it's 'quoted'", "a;b", "a\tb", "nan", "3", "+x", "!x", "?", "*"],
    *["x" * 900, "café"],
]
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def means(key: str, word: str) -> object:
    path = key.split(".")
    return read_value(split_word(word), text_kind(RunConfig, path))


@pytest.mark.parametrize("path", PATHS)
def test_paths_reach_the_config_as_the_shell_passes_them(path):
    config = compose(
        [f"dataset.root={path}", f"tracking.root={path}", f"dataset.images={path}"]
    ).config
    assert (config.dataset.root, config.tracking.root, config.dataset.images) == (path, path, path)


@pytest.mark.parametrize(("name", "key"), OPTIONS, ids=[f"{n}-{k}" for n, k in OPTIONS])
def test_options_of_verbs_take_them_too(name, key):
    others = [f"{o.name}=1" for o in VERBS[name].options if o.required and o.name != key]
    for path in PATHS:
        assert parse(name, VERBS[name], [*others, f"{key}={path}"]).options[key] == path


@pytest.mark.parametrize("path", PATHS)
def test_hyperparameters_and_gates_that_are_text_take_it_too(path):
    config = compose(
        ["template=unet", f"hp.encoder={path}", f"hp.pretrained_weights={path}"]
    ).config
    assert (config.hp["encoder"], config.hp["pretrained_weights"]) == (path, path)
    assert load_gate([f"gate.split={path}"]).split == path


@given(text)
@settings(max_examples=300, deadline=None)
def test_a_printed_word_is_read_back_whatever_it_holds(value):
    """As `shlex.join` prints `key=value`: plain where that is read back, else in quotes."""
    for kind, key in KEY_OF_KIND.items():
        plain = (
            unquoted(value) == value
            and "${" not in value
            and not (kind.structured and value[0] in "[{")
        )
        if plain and not (kind.optional and value == "null"):
            assert means(key, shlex.split(shlex.join([f"{key}={value}"]))[0]) == value
        if "${" not in value:
            assert means(key, shlex.split(shlex.join([f"{key}={quoted(value)}"]))[0]) == value


@given(text)
def test_quotes_are_taken_off_as_they_were_put_on(value):
    assert unquoted(quoted(value)) == value


@given(text.filter(lambda t: "\n" not in t and "${" not in t))
@settings(max_examples=60, deadline=None)
def test_quotes_mean_what_hydra_means_by_them(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"k={quoted(value)}").value() == value


def test_quotes_as_hydra_needs_them_keep_working():
    words = [
        "dataset=folder",
        "dataset.root='/data/it\\'s here'",
        "dataset.classes=[a,'b c']",
        'dataset.images="x y"',
    ]
    dataset = compose(words).config.dataset
    assert (dataset.root, dataset.images, dataset.classes) == (
        "/data/it's here",
        "x y",
        ["a", "b c"],
    )


def test_null_is_no_value_where_that_is_allowed_and_text_in_quotes():
    config = compose(["dataset.root=null", "tracking.uri='null'", "tracking.root=null"]).config
    assert (config.dataset.root, config.tracking.uri, config.tracking.root) == (
        None,
        "null",
        "null",
    )


def test_the_home_folder_has_its_short_form(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = compose(["dataset.root=~/roads", "tracking.root=~", "dataset.fixes=~/f.yaml"]).config
    assert config.dataset.root == "/home/me/roads"
    assert (config.tracking.root, config.dataset.fixes) == ("/home/me", "/home/me/f.yaml")
    call = parse("import", VERBS["import"], ["x", "output=~/roads"])
    assert call.options["output"] == os.path.expanduser("~/roads")


def test_a_file_whose_name_holds_an_equals_sign_is_a_source(tmp_path):
    (tmp_path / "a=b.png").write_bytes(b"")
    assert parse("predict", VERBS["predict"], ["a=b.png", "model=m"]).names == ["a=b.png"]
