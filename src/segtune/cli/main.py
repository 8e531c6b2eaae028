"""The command line: find the verb, call its function, print the result.

`segtune VERB [NAME …] [key=value …]`, with Hydra's override syntax for configs. Results go to
standard output, progress and errors to standard error.
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from segtune import __version__
from segtune.cli.hints import verb_hint
from segtune.cli.parsing import help_text, parse
from segtune.cli.plugin_words import take_plugins
from segtune.cli.verbs import VERBS
from segtune.errors import ConfigError, Interrupted, SegtuneError, StorageError
from segtune.runtime.addresses import move_passwords
from segtune.runtime.strict_json import to_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code.

    0: done. 1: a fault of segtune. 2: config. 3: data. 4: finished in part. 5: storage.
    130: interrupted and resumable.
    """
    words = move_passwords(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal in ASCII or cp1252 shows `?`
    as_json = "--json" in words
    try:
        return _answer(words, as_json)
    except SegtuneError as error:
        return _fail(type(error).__name__, str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        return _fail("Interrupted", "stopped.", Interrupted.exit_code, as_json)
    except Exception as error:
        from segtune.runtime.retry import is_passing, reason_of  # needs libraries

        if is_passing(error):
            message = f"{reason_of(error)}. Run the command again when the disk or server is back."
            return _fail(StorageError.__name__, message, StorageError.exit_code, as_json)
        traceback.print_exc()
        from segtune.plugins.faults import plugin_fault

        fault = plugin_fault(error)
        if fault is not None:
            return _fail(ConfigError.__name__, fault, ConfigError.exit_code, as_json)
        reason = f"{type(error).__name__}: {error}"
        message = f"{reason}. This is a fault of segtune's; please report it."
        return _fail("Fault", message, 1, as_json)


def _answer(words: list[str], as_json: bool) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        return _print(_overview())
    if words[0] == "--version":
        return _print(f"segtune {__version__}")
    if words[0] == "__complete":  # called by the scripts of `segtune completion`
        from segtune.cli.completion import candidates

        return _print("\n".join(candidates(words[1:], VERBS)))
    name = words[0]
    if name not in VERBS:
        raise ConfigError(f"'{name}' is no verb; {verb_hint(name, list(VERBS))}")
    verb, words = VERBS[name], take_plugins(words)
    if {"-h", "--help"} & set(words):
        return _print(help_text(name, verb))
    outcome = verb.run(parse(name, verb, words[1:]))
    _print(_json(outcome.data) if as_json else "\n".join(outcome.lines))
    return outcome.exit_code


def _print(text: str) -> int:
    """Print to standard output, also when `head` has closed it; return the exit code of success."""
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # the interpreter flushes once more when it ends: give it a place to write
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _json(data: Any) -> str:
    """Return one JSON object; characters that standard output cannot show become escapes."""
    text = to_json(data, default=str, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return to_json(data, default=str)
    return text


def _overview() -> str:
    """Return the text of `segtune --help`."""
    rows = [f"  {name:<10} {verb.summary}" for name, verb in VERBS.items()]
    usage = "usage: segtune VERB [NAME …] [key=value …] [--json]"
    return "\n".join([usage, "", *rows, "", "segtune VERB --help shows the options of a verb."])


def _fail(kind: str, message: str, code: int, as_json: bool) -> int:
    print(f"{kind}: {message}", file=sys.stderr)
    if as_json:
        error = {"error": {"kind": kind, "message": message}, "exit_code": code}
        _print(_json(error))
    return code
