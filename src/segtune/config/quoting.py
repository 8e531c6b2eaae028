"""Text on the command line: taken as the shell passes it, or in the quotes of Hydra's syntax."""

import re


def unquoted(text: str) -> str:
    r"""The text without Hydra's quotes; unchanged where it is not a quoted text as a whole.

    As in Hydra, a backslash is only special before a quote and at the end.

    >>> unquoted("'my photos'"), unquoted("it's"), unquoted(r"'it\'s'"), unquoted(r"'C:\data'")
    ('my photos', "it's", "it's", 'C:\\data')
    """
    quote = text[:1]
    if len(text) < 2 or quote not in ("'", '"') or text[-1] != quote:
        return text
    inner = text[1:-1]
    runs = re.findall(rf"(\\*)({quote}|$)", inner)
    if any(len(backslashes) % 2 != bool(end) for backslashes, end in runs):
        return text  # a quote inside, or the last one escaped
    return re.sub(rf"(\\*)({quote}|$)", lambda run: run[1][: len(run[1]) // 2] + run[2], inner)


def quoted(text: str) -> str:
    r"""The text in Hydra's quotes.

    >>> print(quoted("it's"))
    'it\'s'
    """
    return (
        "'" + re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + ("\\'" if run[2] else ""), text) + "'"
    )
