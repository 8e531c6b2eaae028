"""Execute the notebooks; fail if a cell fails: `python notebooks/run.py [OUTPUT]`.

Each notebook runs in its own folder and on one thread, as many at a time as there are cores.
"""

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run(path: Path, output: Path | None) -> str:
    """Run one notebook, save the executed copy under `output` if given, and return a summary."""
    with tempfile.TemporaryDirectory() as work:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": work}}).execute()
    if output:
        output.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, output / path.name)
    return f"{path.name}: {sum(c.cell_type == 'code' for c in notebook.cells)} cells ran"


def main() -> None:
    """Run every notebook; with OUTPUT, save the executed copies there."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        todo = [
            pool.submit(run, path, output) for path in sorted(Path(__file__).parent.glob("*.ipynb"))
        ]
        try:
            for done in as_completed(todo):
                print(done.result(), flush=True)
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    main()
