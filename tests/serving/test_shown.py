"""The requests that docs/serving.md shows, sent to a server with the words of the page."""

import json
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.contracts.shown_commands import ROOT, other_commands
from tests.inference.test_video import clip
from tests.serving.server import picture, png, running, slot

PAGE = ROOT / "docs" / "serving.md"
COMMANDS = [s.text for s in other_commands(PAGE) if s.text.startswith("curl ")]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_each_request_of_the_page_is_answered(tmp_path):
    Path("photo.jpg").write_bytes(png(picture()))
    shutil.move(clip(tmp_path / "clip.mp4", [40 * n for n in range(5)]), "drive.mp4")
    with running(slot(), tmp_path) as client:
        texts = [text.replace(":8000", f":{client.port}") for text in COMMANDS]
        answers = [
            subprocess.check_output(["curl", "-sSf", *shlex.split(text, comments=True)[1:]])
            for text in texts
        ]
        job = client.finished(json.loads(answers[3])["id"])
    assert [len(answer) > 0 for answer in answers] == [True, False, False, True]
    assert json.loads(answers[0])["images"][0]["regions"]
    assert Path("mask.png").read_bytes()[1:4] == b"PNG"
    names = {re.sub(r"[/.].*", "", name) for name in zipfile.ZipFile("all.zip").namelist()}
    assert {"masks", "overlays", "coco"} <= names
    assert job["state"] == "done"
