"""Pages made from files at the top of the repository."""

import ast
import subprocess
from pathlib import Path

from links import in_site


def repository_page(file: Path, source: str) -> str:
    """Return a Markdown file of the repository as a page of the site."""
    return in_site(file.read_text(encoding="utf-8"), file, file.parent, source)


def benchmarks_page(root: Path, source: str) -> str:
    """Return LOG.md with a table of its scripts before it and its history after it."""
    rows = []
    for script in sorted((root / "benchmarks").glob("*.py")):
        summary = (ast.get_docstring(ast.parse(script.read_text())) or "").partition("\n")[0]
        address = f"{source}/blob/main/benchmarks/{script.name}"
        rows.append(f"| [`{script.name}`]({address}) | {summary.replace('|', chr(92) + '|')} |")
    scripts = "\n".join(["| script | measures |", "| --- | --- |", *rows])
    text = repository_page(root / "LOG.md", source).partition("\n")[2]
    return "\n\n".join(
        [
            "# Benchmarks",
            "Every figure with its command, machine and date. The scripts are in `benchmarks/`:",
            scripts,
            text.strip(),
            "## History",
            "The log holds the newest answer to each question; these changes hold the older ones:",
            _history(root, source),
        ]
    )


def _history(root: Path, source: str) -> str:
    """Return the commits of LOG.md as a table; a copy without git has none."""
    command = ["git", "log", "--format=%as\t%H\t%s", "--", "LOG.md"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    rows = ["| date | change |", "| --- | --- |"]
    for line in done.stdout.splitlines():
        date, commit, title = line.split("\t", 2)
        rows.append(f"| {date} | [{title.replace('|', chr(92) + '|')}]({source}/commit/{commit}) |")
    if len(rows) == 2:
        return f"Not known in this copy; see [the log]({source}/commits/main/LOG.md)."
    return "\n".join(rows)
