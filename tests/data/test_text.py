"""Text files of any origin: encodings, byte order marks and ends of lines."""

import json

import pytest

from segtune.data.formats.finding import json_files
from segtune.data.source.files import read_json, read_mapping
from segtune.data.source.lists import read_list
from segtune.data.source.text import decode_text, read_text, read_xml, xml_tag
from segtune.errors import DataError

TEXT = "straße\nauto: 2\nа\n"
UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
OTHER = [("gbk", "道路"), ("latin-1", "straße"), ("shift_jis", "道路"), ("cp1251", "дорога")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", UNICODE)
def test_unicode_text_is_read_without_its_mark(encoding, end):
    assert decode_text(TEXT.replace("\n", end).encode(encoding), "a.txt") == TEXT


@pytest.mark.parametrize("encoding", UNICODE)
def test_lists_json_and_yaml_are_read_in_every_unicode_encoding(encoding, tmp_path):
    path = tmp_path / "file"
    path.write_bytes("# images\r\na.jpg\r\n\r\nb.jpg\r\n".encode(encoding))
    assert read_list(path) == ["a.jpg", "b.jpg"]
    path.write_bytes(json.dumps({"auto": [1]}).encode(encoding))
    assert read_json(path) == {"auto": [1]}
    path.write_bytes("names: [car]\r\n".encode(encoding))
    assert read_mapping(path) == {"names": ["car"]}


@pytest.mark.parametrize(("encoding", "word"), OTHER)
def test_another_encoding_is_refused_with_file_and_line(encoding, word, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(f"car\n{word}\n".encode(encoding))
    with pytest.raises(DataError, match=r"labels\.txt.* line 2 is not in UTF-8"):
        read_text(path)


@pytest.mark.parametrize(("encoding", "word"), OTHER)
def test_json_in_another_encoding_is_not_passed_over(encoding, word, tmp_path):
    path = tmp_path / "a0.json"
    content = json.dumps({"shapes": [{"label": word}]}, ensure_ascii=False)
    path.write_bytes(content.encode(encoding))
    assert json_files(tmp_path, lambda content: "shapes" in content) == [path]
    with pytest.raises(DataError, match=r"a0\.json"):
        read_json(path)


@pytest.mark.parametrize("encoding", [*UNICODE[:3], "gbk", "gb2312", "shift_jis"])
def test_xml_is_read_as_it_declares(encoding, tmp_path):
    path = tmp_path / "a.xml"
    name = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{name}"?><!-- <a> --><annotations label="道路"/>'
    path.write_bytes(text.encode(encoding))
    assert read_xml(path).get("label") == "道路"
    assert xml_tag(path) == "annotations"


def test_xml_in_another_encoding_than_it_declares_is_refused(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes('<?xml version="1.0" encoding="utf-8"?><a b="道"/>'.encode("gbk"))
    with pytest.raises(DataError, match=r"a\.xml.* declares the encoding utf-8"):
        read_xml(path)
