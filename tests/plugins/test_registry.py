"""The door for parts: how they are registered, and the messages for those that do not fit."""

import sys

import pytest

import segtune
from segtune.errors import ConfigError
from segtune.plugins.loading import load_plugins, needed_plugins
from segtune.plugins.registry import find, parts

NET = "@segtune.register('architecture', 'Net')\ndef net(num_classes{}): ...\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@segtune.register('los', 'a')\ndef f(): ...", "no such group; did you mean 'loss'"),
        ("@segtune.register('loss', 'a b')\ndef f(): ...", "letters, digits, _ and -"),
        ("@segtune.register('loss', 'dice')\ndef f(a, b, c): ...", "by segtune itself already"),
        ("@segtune.register('loss', 'f')\ndef f(a, b): ...", "f takes 2 of the 3 arguments"),
        (NET.format(", width"), "option 'width' has no default"),
        (NET.format("") + NET.format("").replace("def net", "def other"), "by plugin 'somelab'"),
        ("segtune.register('loss', 'f')(3)", "3 is no function or class"),
    ],
)
def test_a_part_that_does_not_fit_gives_one_message_with_its_place(write_plugin, text, message):
    path = write_plugin(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_plugins([str(path)])
    assert str(path) in str(caught.value)


def test_two_plugins_with_one_part_are_refused(write_plugin):
    write_plugin(NET.format(""), "alab")
    write_plugin(NET.format(""), "blab")
    with pytest.raises(ConfigError, match=r"blab.*is registered by plugin 'alab' already"):
        load_plugins("alab.py,blab.py")


def test_a_part_may_be_registered_again_by_the_same_code():
    def part(logits, mask, ignore_index): ...

    segtune.register("loss", "again")(part)
    segtune.register("loss", "again")(part)
    assert find("loss", "again").load() is part


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", r"ModuleNotFoundError: .*somelab.py, line 2\)"),
        ("\ndef f(:\n", r"SyntaxError: .*somelab.py, line 3\)"),
        ("raise SystemExit('no licence')", r"SystemExit: no licence .*line 2\)"),
        ("1 / 0", r"plugin '.*somelab.py' fails on import: ZeroDivisionError"),
    ],
)
def test_a_plugin_that_fails_on_import_says_where(write_plugin, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_plugins([str(write_plugin(text))])
    assert "\n" not in str(caught.value)
    assert "somelab" not in sys.modules


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.py", "no such file"),
        ("no.such.module", "no module 'no' is installed"),
        ("json.py", "no such file"),
        ("segtune.api", "segtune's own modules are no plugins"),
    ],
)
def test_a_plugin_that_does_not_exist_is_named(source, message):
    with pytest.raises(ConfigError, match=message):
        load_plugins([source])


def test_a_file_with_the_name_of_a_loaded_module_is_refused(write_plugin):
    with pytest.raises(ConfigError, match="a module with the name 'json' is loaded already"):
        load_plugins([str(write_plugin("", "json"))])


def test_a_module_without_its_suffix_is_recognised(write_plugin):
    write_plugin("")
    with pytest.raises(ConfigError, match=r"For the file here, write plugins=somelab.py"):
        load_plugins(["somelab"])


def test_a_plugin_may_import_the_files_beside_it(write_plugin):
    write_plugin("VALUE = 3", "beside_somelab")
    load_plugins([str(write_plugin("from beside_somelab import VALUE"))])
    assert sys.modules["somelab"].VALUE == 3


def test_the_environment_names_plugins(write_plugin, monkeypatch):
    from segtune.plugins import loading

    monkeypatch.setenv("SEGTUNE_PLUGINS", str(write_plugin(NET.format(""))))
    monkeypatch.setitem(loading._state, "is_loaded", False)
    assert "Net" in parts("architecture")


def test_other_processes_are_told_the_plugins_but_not_those_of_a_script(write_plugin):
    path = write_plugin(NET.format(""))
    load_plugins([str(path)])
    assert str(path) in needed_plugins()
    program = "import segtune\nsegtune.register('loss', 'here')(lambda a, b, c: 0)"
    exec(program, {"__name__": "__main__"})
    with pytest.raises(ConfigError, match="'here' is registered in the program that runs now"):
        needed_plugins()


def test_a_plugin_is_named_by_the_file_that_is_loaded_now(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "moved_lab.py"
        path.write_text("import segtune\n" + NET.format("") + f"NOTE = '{folder}'\n")
        load_plugins([str(path)])
        assert find("architecture", "Net").plugin.source == str(path.resolve())
        del sys.modules["moved_lab"]


def test_every_own_part_can_be_imported():
    from segtune.plugins.groups import GROUPS

    for group, contract in GROUPS.items():
        for part in parts(group).values():
            loaded = part.load()
            functions = [getattr(loaded, name) for name in contract.methods] or [loaded]
            assert all(map(callable, functions)), part.key
