/* Tables that sort by a click on a heading and filter by words. Without this script they are plain.
   <table data-sortable> sorts; <input data-filters="ID"> filters the table with that id.
   A cell's data-value is its value for sorting; otherwise its text is. */
"use strict";

function cellValue(cell) {
  if (!cell) return "";
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text);
  return text !== "" && Number.isFinite(number) ? number : text;
}

/* Numbers come before words; an empty cell, a dash or n/a comes last in both directions. */
function compareValues(a, b, direction) {
  const isEmpty = value => value === "" || value === "–" || value === "n/a";
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
  if (typeof a === "number" && typeof b === "number") return direction * (a - b);
  if (typeof a !== typeof b) return typeof a === "number" ? -direction : direction;
  return direction * a.localeCompare(b, undefined, {numeric: true});
}

function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map(row => [cellValue(row.cells[column]), row]);
  rows.sort((a, b) => compareValues(a[0], b[0], direction));
  body.append(...rows.map(row => row[1]));
  [...table.tHead.rows[0].cells].forEach((heading, index) => {
    if (index === column) heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else heading.removeAttribute("aria-sort");
  });
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const isDescending = heading.getAttribute("aria-sort") === "descending";
      sortTable(table, column, isDescending ? 1 : -1);
    });
  });
}

/* Show the rows that hold every word; "key=value" must equal a cell, "key>1" and "key<1" compare it
   with the heading's column. */
function filterTable(table, text) {
  const headings = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
  const tests = splitWords(text.toLowerCase(), headings).map(word => wordTest(word, headings));
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    row.hidden = !tests.every(test => test(row));
    shown += !row.hidden;
  }
  return shown;
}

/* Split at blanks, but keep a heading that holds blanks together: "val miou>0.6" is one word. */
function splitWords(text, headings) {
  const words = [];
  const names = headings.map(heading => heading.toLowerCase()).filter(name => name.includes(" "));
  for (const name of names.sort((a, b) => b.length - a.length)) {
    for (const sign of "=<>") {
      for (let at = text.indexOf(name + sign); at >= 0; at = text.indexOf(name + sign)) {
        const value = text.slice(at + name.length + 1).match(/^\S*/)[0];
        words.push(name + sign + value);
        text = text.slice(0, at) + " " + text.slice(at + name.length + 1 + value.length);
      }
    }
  }
  return [...words, ...text.split(/\s+/).filter(Boolean)];
}

function wordTest(word, headings) {
  const [, key, sign, wanted] = word.match(/^(.+?)([=<>])(.+)$/) ?? [];
  const column = headings.findIndex(heading => heading.toLowerCase() === key);
  if (column < 0) return row => row.textContent.toLowerCase().includes(word);
  return row => {
    const value = cellValue(row.cells[column]);
    if (sign === "<") return value < Number(wanted);
    if (sign === ">") return value > Number(wanted);
    const text = row.cells[column].textContent.trim().toLowerCase();
    return text === wanted || value === Number(wanted);
  };
}

document.querySelectorAll("table[data-sortable]").forEach(makeSortable);
document.querySelectorAll("input[data-filters]").forEach(input => {
  const table = document.getElementById(input.dataset.filters);
  const count = document.getElementById(input.dataset.filters + "-count");
  const update = () => {
    const shown = filterTable(table, input.value);
    if (count) count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  };
  input.addEventListener("input", update);
  update();
});
