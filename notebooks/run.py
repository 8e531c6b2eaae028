"""Executes the notebooks in a folder of their own and fails where a cell does: `python notebooks/run.py [OUTPUT]`."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    """Runs every notebook; with OUTPUT, keeps the executed copies there."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as work:
            notebook = nbformat.read(path, as_version=4)
            client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": work}})
            client.execute()
        print(f"{path.name}: {sum(c.cell_type == 'code' for c in notebook.cells)} cells ran")
        if output:
            output.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, output / path.name)


if __name__ == "__main__":
    main()
