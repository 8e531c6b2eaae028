"""How long the command line takes to answer: the general help, and a typo in a verb, a group and a key.

python benchmarks/cli.py [--runs 7]
"""

import argparse
import statistics
import subprocess
import sys
import time

CALLS = {
    "segtune --help": ["--help"],
    "typo in a verb": ["trian"],
    "typo in a group": ["train", "dataset=stret"],
    "typo in a key": ["train", "hp.num_epoch=3"],
    "typo in a sweep": ["sweep", "quikstart"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print("| call | median s | slowest s |\n| --- | --- | --- |")
    for name, words in CALLS.items():
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "segtune", *words], capture_output=True, check=False
            )
            times.append(time.perf_counter() - started)
        print(f"| {name} | {statistics.median(times):.2f} | {max(times):.2f} |")


if __name__ == "__main__":
    main()
