"""Measure how fast the command line answers: each help, and a typo in a verb, a group and a key.

python benchmarks/cli.py [--runs 7]

The exit code is 1 if `segtune --help` takes 0.1 s or more, or the help of a verb 0.3 s or more.
Each time is the best of several fresh processes, since other load of the machine only adds to it.
"""

import argparse
import subprocess
import sys
import time

from segtune.cli.verbs import VERBS

HELP_SECONDS, VERB_HELP_SECONDS = 0.1, 0.3
TARGETS: dict[str, float | None] = {
    "--help": HELP_SECONDS,
    **{f"{verb} --help": VERB_HELP_SECONDS for verb in VERBS},
    "trian": None,
    "train dataset=stret": None,
    "train hp.num_epoch=3": None,
    "sweep quikstart": None,
}
"""Words of a call -> its limit in seconds; None for a call that is only measured."""


def seconds(words: list[str]) -> float:
    """Time one call in a fresh process."""
    command = [sys.executable, "-m", "segtune", *words]
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    slow = []
    print("| call | best s | limit s |\n| --- | --- | --- |")
    for line, limit in TARGETS.items():
        best = min(seconds(line.split()) for _ in range(runs))
        print(f"| segtune {line} | {best:.3f} | {'' if limit is None else limit} |")
        if limit is not None and best >= limit:
            slow.append(line)
    for line in slow:
        print(f"too slow: segtune {line}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
