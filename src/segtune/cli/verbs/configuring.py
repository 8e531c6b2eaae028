"""config: show every key of the settings, and the members of each group."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.errors import ConfigError, nearest

if TYPE_CHECKING:
    from segtune.config.keys import Model
    from segtune.config.reference import Setting
    from segtune.plugins.registry import Part

_APART = ("sweep", "gate", "workflow")
"""Settings outside of runs: of sweep files, of the promotion gate, of workflows."""

_PREDICTION = {"formats": "writer", "runtime": "engine"}
"""Key of `segtune predict` -> group of the parts that it names."""

_OPTIONS = ("format_options", "runtime_options")

_SCHEMAS = "schemas"  # default folder of the JSON schemas


def _config(call: Call) -> Outcome:
    if call.flag("schema"):
        return _write_schemas(Path(call.options.get("output", _SCHEMAS)))
    if not call.names:
        return _show_groups()
    name = call.one_name("group or key").removesuffix("=")
    if name == "predict":
        return _show_prediction()
    if name in {*_groups(), *_APART, *_sections()}:
        return _show_group(name)
    return _show_key(name)


def _groups() -> tuple[str, ...]:
    from segtune.config.keys import GROUPS

    return GROUPS


def _sections() -> set[str]:
    """Return the first parts of the keys of a run."""
    return {s.key.split(".")[0] for s in _settings("")}


def _model_apart(name: str) -> "Model":
    from segtune.config.schema import GateConfig
    from segtune.inference.workflow.workflow import WorkflowConfig
    from segtune.sweeping.spec import SweepSpec

    models: dict[str, Model] = {
        "sweep": SweepSpec,
        "gate": GateConfig,
        "workflow": WorkflowConfig,
    }
    return models[name]


def _settings(section: str) -> "list[Setting]":
    """Return the keys of a section; an empty name stands for the whole run.

    The section `hp` holds the hyperparameters of all templates: one row of `hp.encoder` for each
    template that declares it.
    """
    from segtune.config.part_options import plugin_options, prediction_options
    from segtune.config.reference import settings
    from segtune.config.schema import RunConfig

    if section in _APART:
        return list(settings(_model_apart(section), f"{section}."))
    if section == "hp":
        return list(_hyperparameters())
    if section in _OPTIONS:
        rows = list(_options_of_parts(prediction_options()))
        return [row for row in rows if row.key.startswith(f"{section}.")]
    run = [*settings(RunConfig), *_options_of_parts(plugin_options())]
    return [s for s in run if not section or s.key == section or s.key.startswith(f"{section}.")]


def _options_of_parts(parts: "Iterable[tuple[str, Part]]") -> "Iterator[Setting]":
    """Yield the options of parts, each given with the key of its options."""
    from segtune.config.part_options import option_model
    from segtune.config.reference import settings

    for key, part in parts:
        for setting in settings(option_model(part), f"{key}."):
            meaning = f"option of the {part.group} {part.name}: {_title(part)}"
            yield replace(setting, meaning=meaning)


def _title(part: "Part") -> str:
    return (part.load().__doc__ or "").strip().partition("\n")[0]


def _hyperparameters() -> "Iterator[Setting]":
    from segtune.api.experiments import templates
    from segtune.config.reference import Setting

    for template in templates():
        for name, declared in template.hyperparameters.items():
            meaning = f"{template.name}: {declared.description}".rstrip(": ")
            yield Setting(
                key=f"hp.{name}",
                type=declared.kind,
                default=declared.default,
                required=False,
                allowed=declared.allowed,
                meaning=meaning,
            )


def _show_groups() -> Outcome:
    from segtune.config.conf_files import members

    groups = {group: members(group) for group in _groups()}
    apart = {name: members(name) for name in _APART if name != "sweep"}
    sections = sorted(_sections() - set(groups))
    lines = ["Groups: GROUP=MEMBER chooses a member, GROUP.KEY=VALUE changes a key."]
    lines += [f"  {group:<10} {', '.join(names)}" for group, names in groups.items()]
    lines += ["", f"Keys of a run without members: {', '.join(sections)}", ""]
    lines += ["Outside of runs:", "  sweep      keys of sweeps/NAME.yaml, or sweep.KEY=VALUE"]
    lines += [f"  {name:<10} {', '.join(names)}" for name, names in apart.items()]
    lines.append("  predict    formats and runtimes of segtune predict, and their options")
    lines += [
        "",
        "segtune config GROUP shows the members and keys of a group.",
        "segtune config KEY shows the meaning of a key.",
    ]
    data = {"groups": groups, "sections": sections, "apart": {**apart, "sweep": []}}
    return Outcome(data, lines)


def _show_group(name: str) -> Outcome:
    """Show the members of a group with their purpose, and its keys."""
    from segtune.config.conf_files import members

    purposes = {member: _purpose(name, member) for member in members(name)}
    rows = _settings(name)
    lines = [f"{name}={member:<16} {purpose}" for member, purpose in purposes.items()]
    lines += [""] if lines else []
    first_rows: dict[str, Setting] = {}
    for row in rows:  # several templates may declare a hyperparameter: the first one is shown
        first_rows.setdefault(row.key, row)
    lines += [_line(row) for row in first_rows.values()]
    lines += ["", f"segtune config {rows[0].key} shows the meaning of a key."] if rows else []
    keys = [row.to_json() for row in rows]
    return Outcome({"group": name, "members": purposes, "keys": keys}, lines)


def _show_prediction() -> Outcome:
    """Show the writers and engines of `segtune predict`, and the options of each."""
    from segtune.plugins.registry import parts

    lines: list[str] = []
    members: dict[str, dict[str, str]] = {}
    for key, group in _PREDICTION.items():
        members[key] = {name: _title(part) for name, part in parts(group).items()}
        lines += [f"{key + '=' + name:<20} {title}" for name, title in members[key].items()]
    rows = [row for section in _OPTIONS for row in _settings(section)]
    lines += ["", *map(_line, rows)]
    return Outcome(
        {"group": "predict", "members": members, "keys": [r.to_json() for r in rows]}, lines
    )


def _purpose(group: str, member: str) -> str:
    """Return the first comment line of a member's file, or the title of a plugin's template."""
    from segtune.config.conf_files import member_file, template_without_file

    template = template_without_file(member) if group == "template" else None
    if template is not None:
        return str(template["title"])
    text = member_file(group, member).read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _line(setting: "Setting") -> str:
    default = "required" if setting.required else f"default {_shown(setting.default)}"
    allowed = f" ({setting.allowed})" if setting.allowed else ""
    return f"{setting.key:<32} {setting.type}{allowed}, {default}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _show_key(key: str) -> Outcome:
    """Show a key with its meaning, or all keys below it."""
    from segtune.config.aliases import alias_hint
    from segtune.config.renamed import announce, current_key

    announce([key])
    key = current_key(key)
    first = key.split(".")[0]
    section = _settings(first if first in ("hp", *_APART, *_OPTIONS) else "")
    rows = [s for s in section if s.key == key]
    if not rows:
        rows = [s for s in section if s.key.startswith(f"{key}.")]
    if not rows:
        known = [*(s.key for s in section), *_groups(), *_APART]
        raise ConfigError(f"{key}: no such group or key; {alias_hint(key) or nearest(key, known)}")
    lines = []
    for setting in rows:
        lines += [_line(setting), *([f"    {setting.meaning}"] if setting.meaning else [])]
    return Outcome({"keys": [s.to_json() for s in rows]}, lines)


def _write_schemas(folder: Path) -> Outcome:
    """Write JSON schemas for editors: one for each kind of file under `conf/` and `sweeps/`."""
    folder.mkdir(parents=True, exist_ok=True)
    schemas = _schemas()
    lines = []
    for name, schema in schemas.items():
        path = folder / f"{name}.schema.json"
        path.write_text(json.dumps(schema, indent=1, ensure_ascii=False), encoding="utf-8")
        files = "sweeps" if name == "sweep" else f"conf/{name}"
        lines.append(f"{files}/*.yaml: # yaml-language-server: $schema={path.absolute()}")
    lines.append(
        "Make this comment the first line of a file. Editors with yaml-language-server read it."
    )
    return Outcome({"folder": str(folder), "schemas": sorted(schemas)}, lines)


def _schemas() -> dict[str, dict[str, Any]]:
    """Return name of the group -> JSON schema of its files."""
    from segtune.config.reference import json_schema
    from segtune.config.schema import RunConfig

    schemas = {name: json_schema(_model_apart(name)) for name in _APART}
    for schema in schemas.values():
        # a file may leave keys to the command line, and its name to its file name
        schema.pop("required", None)
    run = json_schema(RunConfig)
    for name, section in run["properties"].items():
        # a group whose key is a word, such as kind, has files that set keys of the whole run
        if name in _groups() and "enum" not in section:
            schemas[name] = {**section, "$defs": run["$defs"]}
    return schemas


VERBS = {
    "config": Verb(
        _config,
        "Show the config groups and their members, the keys of a group, or the meaning of a key.",
        "segtune config trainer.ema_decay",
        names="[GROUP | KEY]",
        options=(
            Option(
                "schema", "write JSON schemas with which editors check conf/ and sweeps/", "flag"
            ),
            Option(
                "output",
                "folder of the schemas",
                "path",
                value="DIR",
                default_text=_SCHEMAS,
                completes="file",
            ),
        ),
        completes=("key",),
    ),
}
