"""Execute the notebooks; fail if a cell fails: `python notebooks/run.py [OUTPUT]`.

Each notebook runs in its own folder and on one thread, as many at a time as there are cores.
`python notebooks/run.py notebooks` stores the new outputs in the notebooks themselves.
"""

import base64
import io
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image


def run(path: Path, output: Path | None) -> str:
    """Run one notebook, save the executed copy under `output` if given, and return a summary."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as work:
        where = {"metadata": {"path": work}}
        NotebookClient(notebook, timeout=900, resources=where, record_timing=False).execute()
    if output:
        output.mkdir(parents=True, exist_ok=True)
        store(notebook, output / path.name, work)
    return f"{path.name}: {sum(c.cell_type == 'code' for c in notebook.cells)} cells ran"


def store(notebook: NotebookNode, path: Path, work: str) -> None:
    """Write an executed notebook with small pictures, and without traces of this machine.

    Args:
        work: the folder that it ran in.
    """
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        # warnings of libraries say something of this machine alone
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in (o for o in cell.outputs if "image/png" in o.get("data", {})):
            output.data["image/png"] = with_palette(output.data["image/png"])
    text = nbformat.writes(notebook).replace(f"{work}/", "")
    path.write_text(f"{text}\n", encoding="utf-8")


def with_palette(png: str) -> str:
    """Return a base64 PNG with 256 colours, a third of the size."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    written = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


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
