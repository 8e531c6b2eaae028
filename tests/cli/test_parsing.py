"""Words of the command line: paths that look like keys."""

import pytest

from segtune.cli.parsing import parse
from segtune.cli.verbs.data import VERBS


@pytest.mark.parametrize("name", ["a=b", "a=b, c", "Bob's set", "x=[1]"])
def test_a_path_with_an_equals_sign_is_the_source_of_an_import(name, tmp_path):
    (tmp_path / name).mkdir()
    call = parse("import", VERBS["import"], [str(tmp_path / name), "output=out"])
    assert call.names == [str(tmp_path / name)]
