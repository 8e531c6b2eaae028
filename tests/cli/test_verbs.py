"""Every option of every verb: its forms work, and each wrong form gets one line and exit code 2."""

import inspect

import pytest

from segtune.cli.declaration import Option
from segtune.cli.main import main
from segtune.cli.parsing import COMMON, help_text, parse
from segtune.cli.verbs import VERBS
from segtune.errors import ConfigError

OPTIONS = []
for verb_name, verb in VERBS.items():
    OPTIONS += [(verb_name, option) for option in (*verb.options, *COMMON)]
FLAGS = [(name, option.name) for name, option in OPTIONS if option.kind == "flag"]
VALUES = [(name, option) for name, option in OPTIONS if option.kind != "flag"]
GOOD = {
    "mapping": "{a: 1}",
    "integer": "3",
    "number": "0.5",
    "boolean": "true",
    "path": "a dir/é",
    "text": "it's [x], a=b",
}


def ids(rows):
    return [f"{name}-{getattr(o, 'name', o)}" for name, o in rows]


def needed(name: str, but: str) -> list[str]:
    """Words for the required options of a verb, without one option."""
    return [f"{o.name}=1" for o in VERBS[name].options if o.required and o.name != but]


def good(option: Option) -> str:
    return option.choices[0] if option.choices else GOOD.get(option.kind, "x")


def refused(capsys, *words: str) -> str:
    """The one line of the refusal."""
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert err.startswith("ConfigError: ") and "Traceback" not in err
    return err


@pytest.mark.parametrize(("name", "flag"), FLAGS, ids=ids(FLAGS))
@pytest.mark.parametrize("value", ["=1", "=true", "=", "=false"])
def test_a_flag_takes_no_value(name, flag, value, capsys):
    assert f"--{flag}" in refused(capsys, name, *needed(name, ""), f"--{flag}{value}")


@pytest.mark.parametrize(("name", "option"), VALUES, ids=ids(VALUES))
@pytest.mark.parametrize("form", ["--{}", "--{}=", "{}="])
def test_an_option_without_its_value_is_refused(name, option, form, capsys):
    if option.kind == "boolean" and form == "--{}":
        assert parse(name, VERBS[name], [*needed(name, ""), f"--{option.name}"]).flag(option.name)
        return
    err = refused(capsys, name, *needed(name, option.name), form.format(option.name))
    assert f"{option.name} has no value. Write {option.name}=" in err


@pytest.mark.parametrize(("name", "option"), VALUES, ids=ids(VALUES))
def test_an_option_has_three_forms_that_mean_the_same(name, option):
    key, value, others = option.name, good(option), needed(name, option.name)
    forms = [[f"{key}={value}"], [f"--{key}={value}"], [f"--{key}", value]]
    if option.kind == "boolean":
        forms.pop()
    values = [parse(name, VERBS[name], [*others, *form]).options[key] for form in forms]
    assert all(v == values[0] for v in values)
    if option.kind in ("text", "path"):
        assert values[0] == value


@pytest.mark.parametrize(
    ("name", "option"),
    [(n, o) for n, o in VALUES if o.kind in ("integer", "number", "boolean") or o.choices],
)
@pytest.mark.parametrize("value", ["many", "nan", "[", "1e999", "-1e9", "é"])
def test_a_value_of_another_kind_is_refused_with_its_key(name, option, value):
    if value == "-1e9" and option.kind == "number" and option.above is None:
        pytest.skip("checked by the library")
    with pytest.raises(ConfigError, match=f"^{option.name}="):
        parse(name, VERBS[name], [*needed(name, option.name), f"{option.name}={value}"])


@pytest.mark.parametrize("name", VERBS)
def test_an_unknown_key_or_flag_is_refused_with_the_nearest(name, capsys):
    assert "'--json'" in refused(capsys, name, "--jsno")
    assert "-x: no such flag" in refused(capsys, name, "-x")
    if not VERBS[name].passes and VERBS[name].options:
        assert "no such key" in refused(capsys, name, "zzz=1")


@pytest.mark.parametrize("name", VERBS)
def test_the_help_names_every_option_and_its_choices(name):
    text = help_text(name, VERBS[name])
    for option in VERBS[name].options:
        assert option.usage in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_library_knows_the_choices_that_are_declared():
    from segtune.inference import choices
    from segtune.inference.averaging import AVERAGES
    from segtune.inference.engines import graphs
    from segtune.plugins.registry import parts

    assert set(choices.AVERAGES) == set(AVERAGES)
    assert VERBS["predict"].option("tta").choices == choices.AVERAGES
    assert VERBS["predict"].option("formats").choices == tuple(parts("writer"))
    assert VERBS["serve"].option("runtime").choices == tuple(parts("engine"))
    assert VERBS["export"].option("format").choices == tuple(graphs.EXPORT_FORMATS)


DECLARED = [(name, option) for name, option in OPTIONS if option.sets]


@pytest.mark.parametrize(("name", "option"), DECLARED, ids=ids(DECLARED))
def test_an_option_has_the_default_of_the_parameter_that_it_sets(name, option):
    default = option.parameter.default
    assert option.default
    if not option.default_text and isinstance(default, int | float) and default is not True:
        assert option.default == str(default).lower()
    line = help_text(name, VERBS[name])
    assert f"(default: {option.default}" in " ".join(line.split())


@pytest.mark.parametrize("name", VERBS)
def test_no_option_repeats_a_default_of_its_parameter(name):
    for option in VERBS[name].options:
        if option.default_text and option.parameter is not None:
            assert option.parameter.default in (None, inspect.Parameter.empty)
