"""Read text files of any origin: the one place that knows encodings and ends of lines."""

import codecs
import re
from pathlib import Path
from xml.etree import ElementTree

from segtune.errors import DataError
from segtune.runtime.regular import read_regular

_MARKS = (
    # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 4096  # bytes that are looked at for UTF-16 without a mark
_XML_DECLARATION = re.compile(r"""^\s*<\?xml[^>]*?encoding=["']([\w.-]+)["'][^>]*\?>""")

_XML_ASIDE = re.compile(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\])?\s*>", re.DOTALL)
_XML_TAG = re.compile(r"<([\w:.-]+)")


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32; a byte order mark is no part of the text.

    Raises:
        DataError: it cannot be read, or is in another encoding.
    """
    return decode_text(_read_bytes(path), str(path))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, without blank ones.

    Raises:
        DataError: see `read_text`.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    return [line for line in lines if line]


def decode_text(data: bytes, name: str) -> str:
    r"""The text of a file's bytes; line ends become `\n`.

    >>> decode_text("\ufeffa\r\nb".encode("utf-16-le"), "list.txt")
    'a\nb'

    Raises:
        DataError: the bytes are in another encoding, such as GBK or Latin-1.
    """
    encoding = _encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"'{name}' cannot be read as text: line {line} is not in {error.encoding.upper()}. "
            "UTF-8 and UTF-16 are read. Save the file as UTF-8, e.g. from GBK: "
            f"iconv -f GBK -t UTF-8 '{name}' > new"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file in the encoding that it declares.

    Raises:
        DataError: it cannot be read, is no XML, or defines entities, which may grow without limit.
    """
    text = _xml_text(_read_bytes(path), str(path))
    if "<!ENTITY" in text:
        raise DataError(
            f"'{path}' defines XML entities, which annotations do not need; "
            "they are not expanded. Remove them."
        )
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"'{path}' cannot be read as XML: {error}") from None


def xml_tag(path: Path) -> str | None:
    """The name of an XML file's outer element; None for another file."""
    try:
        with path.open("rb") as file:
            start = file.read(_SAMPLE)
    except OSError:
        return None
    text = start.decode(_encoding_of(start), errors="replace")
    match = _XML_TAG.search(_XML_ASIDE.sub("", text))
    return match[1] if match else None


def _xml_text(data: bytes, name: str) -> str:
    """The text of an XML file, without its declaration.

    Python's parser refuses encodings of several bytes, such as GBK, that it has no table for.
    """
    declared = _XML_DECLARATION.match(data[:200].decode("latin-1"))
    if declared is None or _encoding_of(data) != "utf-8":
        text = decode_text(data, name)
    else:
        encoding = declared[1]
        try:
            text = data.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            raise DataError(
                f"'{name}' declares the encoding {encoding}, in which it cannot be read. "
                "Save it as UTF-8, and declare that."
            ) from None
    return _XML_DECLARATION.sub("", text, count=1)


def _encoding_of(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    sample = data[: _SAMPLE - _SAMPLE % 2]
    # text of mostly ASCII characters, in two bytes each
    if len(sample) >= 4 and sample[1::2].count(0) > len(sample) / 4:
        return "utf-16-le"
    if len(sample) >= 4 and sample[0::2].count(0) > len(sample) / 4:
        return "utf-16-be"
    return "utf-8"


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from None
