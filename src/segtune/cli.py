"""The command line: parses the verb, calls its function, prints the result; nothing else.

`segtune VERB [NAME …] [key=value …]`, with Hydra's override syntax for configs. Results go to standard output,
progress and faults to standard error.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence

from segtune import __version__
from segtune.errors import ConfigError, Interrupted, SegtuneError, nearest
from segtune.verbs import VERBS
from segtune.verbs.call import Call


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code.

    0 done, 1 a fault of ours, 2 config, 3 data, 4 finished in part, 5 storage, 130 interrupted and resumable.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        name = _verb(words)
        if name is None:
            return 0
        outcome = VERBS[name].run(_parse(name, words[1:]))
    except SegtuneError as error:
        return _fail(type(error).__name__, str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        return _fail("Interrupted", "stopped.", Interrupted.exit_code, as_json)
    except Exception as error:
        traceback.print_exc()
        return _fail(
            "Fault", f"{type(error).__name__}: {error}. This is a fault of segtune's; please report it.", 1, as_json
        )
    _print(json.dumps(outcome.data, default=str, ensure_ascii=False) if as_json else "\n".join(outcome.lines))
    return outcome.exit_code


def _print(text: str) -> None:
    """Prints to whoever still reads: `head` may have enough."""
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:  # nor may the interpreter flush on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _verb(words: Sequence[str]) -> str | None:
    """The verb; None after the general help or version was printed."""
    if not words or words[0] in ("-h", "--help", "help"):
        rows = [f"  {n:<10} {v.summary}" for n, v in VERBS.items()]
        usage, more = "usage: segtune VERB [NAME …] [key=value …] [--json]", "segtune VERB --help tells more of each."
        _print("\n".join([usage, "", *rows, "", more]))
        return None
    if words[0] == "--version":
        _print(f"segtune {__version__}")
        return None
    if words[0] not in VERBS:
        raise ConfigError(f"'{words[0]}' is no verb; {nearest(words[0], VERBS)}")
    return words[0]


def _parse(name: str, words: Sequence[str]) -> Call:
    verb = VERBS[name]
    parser = argparse.ArgumentParser(
        prog=f"segtune {name}", usage=verb.usage, description=verb.summary, epilog=f"example: {verb.example}",
        exit_on_error=False,
    )  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="NAME | key=value")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    if name == "train":
        parser.add_argument(
            "--print-config", action="store_true", help="print the composed config and where each value came from"
        )
    if name == "compare":
        parser.add_argument("--baseline", help="name or run id of the candidate that the others are compared with")
    if name == "check":
        parser.add_argument(
            "--fix", action="store_true", help="write what repairs the dataset; changes none of its files"
        )
        parser.add_argument(
            "--labels", action="store_true", help="rank the images whose truth a trained model disputes: run=RUN"
        )
    if name == "sweep":
        parser.add_argument("--dry-run", action="store_true", help="print space, forecast and compute; start nothing")
    if {"-h", "--help"} & set(words):
        _print(parser.format_help().rstrip())
        raise SystemExit(0)
    flags, unknown = parser.parse_known_intermixed_args(list(words))
    if unknown:
        known = [o for a in parser._actions for o in a.option_strings]
        raise ConfigError(f"{unknown[0]}: no such flag of '{name}'; {nearest(unknown[0], known)}")
    return Call([w for w in flags.words if "=" not in w], [w for w in flags.words if "=" in w], flags)


def _fail(kind: str, message: str, code: int, as_json: bool) -> int:
    print(f"{kind}: {message}", file=sys.stderr)
    if as_json:
        _print(json.dumps({"error": {"kind": kind, "message": message}, "exit_code": code}, ensure_ascii=False))
    return code
