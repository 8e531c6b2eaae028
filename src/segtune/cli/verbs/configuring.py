"""config: show every key of the settings, and the members of each group."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.errors import ConfigError, nearest

if TYPE_CHECKING:
    from segtune.config.reference import Setting

_APART = ("sweep", "gate", "workflow")
"""Settings that are no part of a run: of sweep files, of the promotion gate, of workflows."""


def _config(call: Call) -> Outcome:
    if call.flag("schema"):
        return _write_schemas(call.options.get("output", "schemas"))
    if not call.names:
        return _overview()
    name = call.one_name("group or key").removesuffix("=")
    if name in {*_groups(), *_APART, *(key.split(".")[0] for key in _run_keys())}:
        return _group(name)
    return _key(name)


def _groups() -> tuple[str, ...]:
    from segtune.config.keys import GROUPS

    return GROUPS


def _run_keys() -> list[str]:
    return [s.key for s in _section("")]


def _section(name: str) -> "list[Setting]":
    """The keys of a section; of a run as a whole for an empty name.

    The hyperparameters are those of all templates: `hp.encoder` stands for each that declares it.
    """
    from segtune.config.reference import settings
    from segtune.config.schema import GateConfig, RunConfig

    if name == "gate":
        return list(settings(GateConfig, "gate."))
    if name == "sweep":
        from segtune.sweeping.spec import SweepSpec

        return list(settings(SweepSpec, "sweep."))
    if name == "workflow":
        from segtune.inference.workflow.workflow import WorkflowConfig

        return list(settings(WorkflowConfig, "workflow."))
    run = list(settings(RunConfig))
    if name == "hp":
        return list(_hyperparameters())
    return [s for s in run if not name or s.key == name or s.key.startswith(f"{name}.")]


def _hyperparameters() -> "Iterator[Setting]":
    from segtune.api.experiments import templates
    from segtune.config.reference import Setting

    for template in templates():
        for name, declared in template.hyperparameters.items():
            meaning = f"{template.name}: {declared.description}".rstrip(": ")
            yield Setting(
                f"hp.{name}", declared.kind, declared.default, False, declared.allowed, meaning
            )


def _overview() -> Outcome:
    from segtune.config.conf_files import members

    rows = {group: members(group) for group in _groups()}
    apart = {name: members(name) for name in _APART if name != "sweep"}
    sections = sorted({key.split(".")[0] for key in _run_keys()} - set(rows))
    lines = ["Groups: GROUP=MEMBER chooses one, GROUP.KEY=VALUE changes a key of it."]
    lines += [f"  {group:<10} {', '.join(names)}" for group, names in rows.items()]
    lines += ["", f"Keys of a run without members: {', '.join(sections)}", ""]
    lines += ["Apart from runs:", "  sweep      keys of sweeps/NAME.yaml, or sweep.KEY=VALUE"]
    lines += [f"  {name:<10} {', '.join(names)}" for name, names in apart.items()]
    lines += [
        "",
        "segtune config GROUP shows its members and keys, segtune config KEY what a key means.",
    ]
    return Outcome({"groups": rows, "sections": sections, "apart": {**apart, "sweep": []}}, lines)


def _group(name: str) -> Outcome:
    """Members with their first comment line, and keys."""
    from segtune.config.conf_files import members

    purposes = {member: _purpose(name, member) for member in members(name)}
    rows = _section(name)
    lines = [f"{name}={member:<16} {purpose}" for member, purpose in purposes.items()]
    lines += [""] if lines else []
    shown = {s.key: s for s in reversed(rows)}  # a hyperparameter as the first template declares it
    for key in dict.fromkeys(s.key for s in rows):
        lines += [_line(shown[key])]
    lines += ["", f"segtune config {rows[0].key} shows what a key means."] if rows else []
    return Outcome({"group": name, "members": purposes, "keys": [s.to_json() for s in rows]}, lines)


def _purpose(group: str, member: str) -> str:
    """The first comment line of a member's file that says what it is for."""
    from segtune.config.conf_files import member_file

    for line in (
        member_file(group, member).read_text(encoding="utf-8", errors="replace").splitlines()
    ):
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _line(setting: "Setting") -> str:
    default = "required" if setting.required else f"default {_value(setting.default)}"
    allowed = f" ({setting.allowed})" if setting.allowed else ""
    return f"{setting.key:<32} {setting.type}{allowed}, {default}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _key(key: str) -> Outcome:
    from segtune.config.aliases import alias_hint

    first = key.split(".")[0]
    section = _section(first if first in ("hp", *_APART) else "")
    rows = [s for s in section if s.key == key] or [
        s for s in section if s.key.startswith(f"{key}.")
    ]
    if not rows:
        known = [*(s.key for s in section), *_groups(), *_APART]
        raise ConfigError(f"{key}: no such group or key; {alias_hint(key) or nearest(key, known)}")
    lines = []
    for setting in rows:
        lines += [_line(setting), *([f"    {setting.meaning}"] if setting.meaning else [])]
    return Outcome({"keys": [s.to_json() for s in rows]}, lines)


def _write_schemas(output: str) -> Outcome:
    """JSON schemas for editors, one for each kind of file under `conf/` and `sweeps/` that sets keys of its own."""
    from segtune.config.reference import json_schema
    from segtune.config.schema import GateConfig, RunConfig
    from segtune.inference.workflow.workflow import WorkflowConfig
    from segtune.sweeping.spec import SweepSpec

    run = json_schema(RunConfig)
    schemas = {
        "sweep": json_schema(SweepSpec),
        "gate": json_schema(GateConfig),
        "workflow": json_schema(WorkflowConfig),
    }
    for schema in schemas.values():
        schema.pop(
            "required", None
        )  # a file may leave keys to the command line, and its name to its file name
    for name, form in run["properties"].items():
        # the files of a group whose key is a word, as kind, set keys of the whole run
        if name in _groups() and "enum" not in form:
            schemas[name] = {**form, "$defs": run["$defs"]}
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, schema in schemas.items():
        path = folder / f"{name}.schema.json"
        path.write_text(json.dumps(schema, indent=1, ensure_ascii=False), encoding="utf-8")
        where = "sweeps" if name == "sweep" else f"conf/{name}"
        lines.append(f"{where}/*.yaml: # yaml-language-server: $schema={path.absolute()}")
    lines.append(
        "Write the comment of a file's kind as its first line, for editors that know yaml-language-server."
    )
    return Outcome({"folder": str(folder), "schemas": sorted(schemas)}, lines)


VERBS = {
    "config": Verb(
        _config,
        "Show the config groups and their members, the keys of one, or what a key means.",
        "segtune config trainer.ema_decay",
        names="[GROUP | KEY]",
        options=(
            Option(
                "schema", "write JSON schemas with which editors check conf/ and sweeps/", "flag"
            ),
            Option("output", "folder of the schemas", "path", "DIR", "schemas", completes="file"),
        ),
        completes=("key",),
    ),
}
