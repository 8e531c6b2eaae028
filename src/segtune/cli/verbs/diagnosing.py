"""doctor and completion: is this machine ready, and help for the shell."""

from segtune.cli.declaration import EXPERIMENT, STORE, Call, Option, Outcome, Verb, store_options
from segtune.errors import ConfigError


def _doctor(call: Call) -> Outcome:
    from segtune.api.doctor import diagnose

    done = diagnose(**store_options(call), fix=call.flag("fix"))
    return Outcome(done.to_json(), [f.line() for f in done.findings], done.exit_code)


def _completion(call: Call) -> Outcome:
    from segtune.cli.completion import SCRIPTS

    shell = call.one_name("shell: bash, zsh or fish")
    if shell not in SCRIPTS:
        raise ConfigError(f"{shell}: no shell that is known here; there are bash, zsh and fish.")
    return Outcome({"shell": shell, "script": SCRIPTS[shell]}, SCRIPTS[shell].splitlines())


VERBS = {
    "doctor": Verb(
        _doctor,
        "Check this machine and the store, and repair what a crash left.",
        "segtune doctor --fix",
        options=(
            Option("fix", "repair what can be repaired; a copy is kept of what is cut", "flag"),
            *STORE,
            EXPERIMENT,
        ),
    ),
    "completion": Verb(
        _completion,
        "Print the completion of a shell: verbs, groups, members, keys, names.",
        "segtune completion bash > ~/.local/share/bash-completion/completions/segtune",
        names="bash | zsh | fish",
        completes=("shell",),
    ),
}
