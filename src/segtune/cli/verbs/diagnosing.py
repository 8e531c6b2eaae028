"""doctor and completion: check this machine, and help the shell."""

from segtune.cli.declaration import EXPERIMENT, STORE, Call, Option, Outcome, Verb, store_options
from segtune.errors import ConfigError


def _doctor(call: Call) -> Outcome:
    from segtune.api.doctor import diagnose

    diagnosis = diagnose(**store_options(call), fix=call.flag("fix"))
    lines = [finding.line() for finding in diagnosis.findings]
    return Outcome(diagnosis.to_json(), lines, diagnosis.exit_code)


def _completion(call: Call) -> Outcome:
    from segtune.cli.completion import SCRIPTS

    shell = call.one_name("shell: bash, zsh or fish")
    if shell not in SCRIPTS:
        raise ConfigError(f"{shell}: no such shell here; known: {', '.join(SCRIPTS)}.")
    return Outcome({"shell": shell, "script": SCRIPTS[shell]}, SCRIPTS[shell].splitlines())


VERBS = {
    "doctor": Verb(
        _doctor,
        "Check this machine and the store, and repair what a crash left.",
        "segtune doctor --fix",
        options=(
            Option(
                "fix", "repair the damage, as far as possible; a cut file is copied first", "flag"
            ),
            *STORE,
            EXPERIMENT,
        ),
    ),
    "completion": Verb(
        _completion,
        "Print the completion script of a shell: verbs, groups, members, keys and names.",
        "segtune completion bash > ~/.local/share/bash-completion/completions/segtune",
        names="bash | zsh | fish",
        completes=("shell",),
    ),
}
