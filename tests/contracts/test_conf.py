"""Every file under conf/ and sweeps/ composes and validates, and says what it is for."""

import pytest

from segtune.config.compose import compose
from segtune.config.conf_files import members
from segtune.config.conf_folders import shipped
from segtune.config.keys import GROUPS
from segtune.data.formats import formats
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import load_spec

MEMBERS = [(g, m) for g in GROUPS for m in members(g)]
SWEEPS = sorted(p.stem for p in shipped("sweeps").glob("*.yaml"))
NEEDED = {
    ("dataset", "folder"): ["dataset.root=x", "dataset.classes=[a,b]"],
    **{("dataset", name): ["dataset.root=x"] for name in formats()},
    ("loss", "masks"): ["template=eomt"],
    ("kind", "labeler"): ["labeler.concept=car"],
    ("template", "mask_pool"): ["kind=labeler", "labeler.concept=car"],
}


@pytest.mark.parametrize(("group", "member"), MEMBERS, ids=[f"{g}-{m}" for g, m in MEMBERS])
def test_every_member_of_every_group_composes(group, member):
    composed = compose([f"{group}={member}", *NEEDED.get((group, member), [])])
    assert composed.config.template["name"] in members("template")


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_composes_at_all_its_corners(name):
    space = build_space(load_spec(name))
    assert space.dimensions


def test_every_file_begins_with_its_purpose():
    for path in [*shipped("conf").rglob("*.yaml"), *shipped("sweeps").glob("*.yaml")]:
        lines = [
            line for line in path.read_text().splitlines() if not line.startswith("# @package")
        ]
        assert lines[0].startswith("# ") and len(lines[0]) > 12, path
    for path in shipped("sweeps").glob("*.yaml"):
        assert path.read_text().startswith("# Question: "), path


def test_all_groups_of_the_design_exist():
    assert all(members(g) for g in GROUPS)
    assert {"cpu", "gpu", "ddp", "debug"} <= set(members("trainer"))
    assert {"adamw", "sgd", "muon"} <= set(members("optimizer"))
