"""How long a check takes: 1,000 images of 480x360 with their masks, as PNG.

    python benchmarks/check.py

Street scenes are drawn once into a temporary folder; the time is that of the check alone, of all its findings and the
page, in one process on as many threads as there are cores. Beside it, in the same run, decoding the same files bare.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segtune.config.compose import compose
from segtune.data.audit import audit
from segtune.data.reading.images import read_image, read_mask
from segtune.data.sources import open_source
from segtune.report.check_page import write_page


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    val = options.images // 5
    with tempfile.TemporaryDirectory() as folder:
        scenes = (
            f"{{width:480,height:360,train:{options.images - val},val:{val},test:1,clips:0,seed:0}}"
        )
        words = ["dataset=street", f"dataset.street={scenes}", f"dataset.root='{folder}/street'"]
        source = open_source(compose(words).config.dataset, print)
        started = time.perf_counter()
        found = audit(source, [360])
        examined = time.perf_counter() - started
        write_page(found, Path(folder) / "page")
        whole = time.perf_counter() - started
        files = [f for s in ("train", "val") for p in source.pairs(s) for f in (p.image, p.mask)]
        started = time.perf_counter()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda p: (read_mask if "masks" in p.parts else read_image)(p), files))
        bare = time.perf_counter() - started
    print("| images | check, s | with its page, s | target, s | decoding alone, s | findings |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {options.images} | {examined:.1f} | {whole:.1f} | 30 | {bare:.1f} | {len(found.findings)} |"
    )


if __name__ == "__main__":
    main()
