"""Time a check of 1,000 PNG images of 480x360 with their masks.

    python benchmarks/check.py

Street scenes are drawn once into a temporary folder. The time covers the check with all findings,
and the page, in one process with one thread for each core. For comparison the same run only decodes
the files.
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    val = options.images // 5
    with tempfile.TemporaryDirectory() as folder:
        splits = f"train:{options.images - val},val:{val},test:1"
        scenes = f"{{width:480,height:360,{splits},clips:0,seed:0}}"
        words = ["dataset=street", f"dataset.street={scenes}", f"dataset.root='{folder}/street'"]
        source = open_source(compose(words).config.dataset, print)
        started = time.perf_counter()
        result = audit(source, [360])
        check_seconds = time.perf_counter() - started
        write_page(result, Path(folder) / "page")
        total_seconds = time.perf_counter() - started
        pairs = [*source.pairs("train"), *source.pairs("val")]
        started = time.perf_counter()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda pair: (read_image(pair.image), read_mask(pair.mask)), pairs))
        decode_seconds = time.perf_counter() - started
    print("| images | check, s | check and page, s | target, s | decoding only, s | findings |")
    print("| --- | --- | --- | --- | --- | --- |")
    seconds = f"{check_seconds:.1f} | {total_seconds:.1f} | 30 | {decode_seconds:.1f}"
    print(f"| {options.images} | {seconds} | {len(result.findings)} |")


if __name__ == "__main__":
    main()
