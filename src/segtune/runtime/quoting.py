"""Text on the command line: as the shell passes it, or in the quotes of Hydra's syntax."""

import re


def unquoted(text: str) -> str:
    r"""Return the text without Hydra's quotes; a text that is not quoted as a whole stays as it is.

    As in Hydra, a backslash is special only before a quote and at the end.

    >>> unquoted("'my photos'"), unquoted("it's"), unquoted(r"'it\'s'"), unquoted(r"'C:\data'")
    ('my photos', "it's", "it's", 'C:\\data')
    """
    quote = text[:1]
    if len(text) < 2 or quote not in ("'", '"') or text[-1] != quote:
        return text
    inner = text[1:-1]
    pattern = rf"(\\*)({quote}|$)"
    for backslashes, end in re.findall(pattern, inner):
        if len(backslashes) % 2 != bool(end):
            return text  # a quote inside is not escaped, or the last quote is
    return re.sub(pattern, lambda match: match[1][: len(match[1]) // 2] + match[2], inner)


def quoted(text: str) -> str:
    r"""Return the text in Hydra's quotes.

    >>> print(quoted("it's"))
    'it\'s'
    """

    def escape(match: re.Match[str]) -> str:
        return match[1] * 2 + ("\\'" if match[2] else "")

    return "'" + re.sub(r"(\\*)('|$)", escape, text) + "'"
