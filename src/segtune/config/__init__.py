"""Configs: files and command-line words in, checked settings out, with the origin of every value."""

from segtune.conf_folders import conf_dirs, shipped
from segtune.config.composing import Composed, compose
from segtune.config.folders import load_gate, load_member, load_template, members, read_yaml
from segtune.config.schema import GROUPS, flatten, parse_settings, validate
from segtune.config.words import changed, split_word

__all__ = [
    "GROUPS",
    "Composed",
    "changed",
    "compose",
    "conf_dirs",
    "flatten",
    "load_gate",
    "load_member",
    "load_template",
    "members",
    "parse_settings",
    "read_yaml",
    "shipped",
    "split_word",
    "validate",
]
