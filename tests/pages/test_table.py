"""The shared table sorts and filters, in a browser."""

import pytest

from segtune.pages.rendering import environment
from tests.pages.browser import needs_browser, probe

PAGE = """{% extends "page.html.j2" %}{% block body %}
<input data-filters="runs" aria-label="filter"><span id="runs-count"></span>
<table data-sortable id="runs"><thead><tr><th>run</th><th>mIoU</th><th>rate</th></tr></thead><tbody>
<tr><td>b &amp; c</td><td>9.5</td><td data-value="0.001">1e-3</td></tr>
<tr><td>a</td><td>10.5</td><td>–</td></tr>
<tr><td>B2</td><td>n/a</td><td>0.0001</td></tr>
</tbody></table><script>{% include "table.js" %}</script>{% endblock %}"""
SCRIPT = """
const table = document.getElementById('runs'), input = document.querySelector('input');
const shown = () => [...table.tBodies[0].rows].filter(r => !r.hidden)
  .map(r => r.cells[0].textContent);
const click = n => { table.tHead.rows[0].cells[n].firstChild.click(); return shown(); };
const type = text => { input.value = text; input.dispatchEvent(new Event('input'));
  return shown(); };
return {miou: click(1), miou_up: click(1), rate: click(2), run: [click(0), click(0)][1],
  sorted: table.tHead.rows[0].cells[0].getAttribute('aria-sort'), word: type('B'),
  above: type('miou>9 rate<1'), equal: type('rate=0.001'), none: type('zzz'),
  count: document.getElementById('runs-count').textContent, all: type('').length};
"""


@needs_browser
@pytest.mark.slow
@pytest.mark.ci
def test_a_table_sorts_by_value_and_filters_by_words_and_comparisons():
    templates = environment("pages")
    result = probe(templates.from_string(PAGE).render(), SCRIPT)
    assert result == {
        "miou": ["a", "b & c", "B2"],
        "miou_up": ["b & c", "a", "B2"],  # an absent value stays last
        "rate": ["b & c", "B2", "a"],
        "run": ["a", "b & c", "B2"],
        "sorted": "ascending",
        "word": ["b & c", "B2"],
        "above": ["b & c"],
        "equal": ["b & c"],
        "none": [],
        "count": "0 of 3 rows",
        "all": 3,
    }
