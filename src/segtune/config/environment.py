"""Keep secrets of the environment out of configs: a conf folder may come with somebody's data.

A run records its config fully resolved, and other people may read that record.
"""

import re
from collections.abc import Mapping
from typing import Any

from segtune.config.keys import flatten
from segtune.errors import ConfigError

_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,}]*)")
_SECRET = re.compile(
    r"(^|_)(api|access)?keys?(_|$)|(^|_)auth(_|$)|token|secret|passw|passphrase|credential|\$",
    re.IGNORECASE,
)


def refuse_secrets(values: Mapping[str, Any], where: str) -> None:
    """Refuse files that read a variable whose name says that it holds a secret.

    Args:
        values: content of the files, with interpolations as they are written.
        where: names the files in the message.

    Raises:
        ConfigError: names the key and the variable.
    """
    for key, value in flatten(values):
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                continue
            for name in _VARIABLE.findall(item):
                if _SECRET.search(name):
                    raise ConfigError(
                        f"{key} in {where} reads the environment variable '{name.strip()}', whose "
                        "value would be recorded with every run. Give the value on the command "
                        f"line, if you mean it: {key}=…"
                    )
