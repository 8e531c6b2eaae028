"""A workflow is loaded, saved and used as one model."""

import json

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

import segtune
from segtune.classes import ClassTable
from segtune.config.compose import compose
from segtune.config.conf_files import load_member, members
from segtune.config.keys import parse_settings
from segtune.data.sources import open_source
from segtune.data.street.scenes import Scene
from segtune.errors import ConfigError, DataError
from segtune.inference.labeler import RegionLabeler
from segtune.inference.loading import open_model
from segtune.inference.regions.regions import SCHEMA
from segtune.inference.workflow.workflow import Workflow, WorkflowConfig
from segtune.models.labeler import build_labeler
from tests.conftest import SCENES

QUIET = {"say": lambda _: None}
MODEL = {"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}


def write_labeler(
    folder, concept: str = "building", names: tuple[str, ...] = ("house", "skyscraper")
) -> str:
    torch.manual_seed(0)
    made = RegionLabeler(
        build_labeler(MODEL, len(names)), concept, ClassTable.parse(list(names)), [64], 16, {}
    )
    made.describe({"name": "mask_pool", "model": MODEL}, {"name": "street"}, {})
    made.save(folder)
    return str(folder)


def write_workflow(root, name: str, **config) -> None:
    folder = root / "conf" / "workflow"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(json.dumps(config))  # JSON is YAML


@pytest.fixture
def fine(tmp_path, tiny_run) -> str:
    """The name of a workflow in the working folder: filter, labeler, an edit."""
    write_workflow(
        tmp_path,
        "fine",
        segmenter=str(tiny_run.segmenter),
        regions="components",
        filter={"min_area": 20, "concepts": ["building", "road", "sky"]},
        labelers=[write_labeler(tmp_path / "houses")],
        edits=[{"do": "free_space", "obstacles": ["building"]}, {"do": "blur", "of": ["road"]}],
        look={"formats": ["masks"]},
    )
    return "fine"


@pytest.fixture
def scene() -> np.ndarray:
    return Scene(5).render(64, 96).image


def test_regions_pass_the_filter_get_finer_labels_and_feed_the_edits(fine, scene):
    worked = segtune.workflow(fine).segment(scene)
    assert {r.concept for r in worked.regions} <= {"building", "road", "sky"} and worked.regions
    assert [r.id for r in worked.regions] == list(range(len(worked.regions)))
    assert all(r.area_share * worked.mask.size >= 19.5 for r in worked.regions)
    for region in worked.regions:
        assert bool(region.finer) == (region.concept == "building")
    assert list(worked.edited.facts) == ["free_space", "blur"]
    assert worked.edited.picture.shape == scene.shape


def test_a_saved_workflow_is_one_folder_with_the_same_results(fine, scene, tmp_path):
    made = segtune.workflow(fine)
    made.save(tmp_path / "whole")
    again = open_model(tmp_path / "whole")
    assert isinstance(again, Workflow) and again.pinned() == made.pinned()
    first, second = made.segment(scene), again.segment(scene)
    assert first.regions == second.regions and np.array_equal(
        first.edited.picture, second.edited.picture
    )
    weights = tmp_path / "whole" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(DataError, match="was changed after it was saved"):
        open_model(tmp_path / "whole")


def test_predict_writes_pictures_facts_and_the_pinned_workflow_by_the_schema(fine, tmp_path):
    root = open_source(compose(SCENES).config.dataset).root
    done = segtune.predict(
        segtune.workflow(fine),
        [root / "images" / "test", root / "clips"],
        tmp_path / "an out",
        **QUIET,
    )
    document = json.loads((done.output / "regions.json").read_text())
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(document, schema)
    assert document["model"] == "workflow fine" and len(document["workflow"]["parts"]) == 2
    assert all(len(p["manifest_sha256"]) == 64 for p in document["workflow"]["parts"])
    building = next(c for c in document["classes"] if c["name"] == "building")
    assert building["finer"] == ["house", "skyscraper"]
    assert set(document["images"][0]["facts"]) == {"free_space", "blur"}
    assert (done.output / "edited" / "00000.png").is_file() and (
        done.output / "masks" / "00000.png"
    ).is_file()
    assert not (done.output / "overlays").exists()  # the workflow asks for masks
    frames = (done.output / document["videos"][0]["frames_file"]).read_text().splitlines()
    frame_schema = {**schema["$defs"]["frame"], "$defs": schema["$defs"]}
    rows = [json.loads(line) for line in frames if '"number"' in line]
    assert len(rows) == document["videos"][0]["frames"] == 5
    for row in rows:
        jsonschema.validate(row, frame_schema)
        assert row["facts"]["free_space"]["counts"]
    assert (done.output / "edited" / "clip_00.mp4").stat().st_size > 1000


def test_a_workflow_is_registered_once_and_loaded_as_one_model(fine, scene, tmp_path):
    made = segtune.workflow(fine)
    first = segtune.promote_workflow(fine, "street_fine", root=str(tmp_path / "store"))
    second = segtune.promote_workflow(fine, "street_fine", root=str(tmp_path / "store"))
    assert first.version == second.version == 1 and first.moved
    changed = segtune.promote_workflow(
        fine, "street_fine", "workflow.filter.min_area=40", root=str(tmp_path / "store")
    )
    assert changed.version == 2
    loaded = segtune.load("models:/street_fine/1", root=str(tmp_path / "store"))
    assert (
        isinstance(loaded, Workflow)
        and loaded.segment(scene).regions == made.segment(scene).regions
    )
    fast = segtune.load("models:/street_fine/1", root=str(tmp_path / "store"), runtime="bf16")
    assert (
        fast.segmenter.engine.name == "bf16"
        and np.mean(fast.segment(scene).mask == loaded.segment(scene).mask) > 0.9
    )
    image, output, store = _image(tmp_path, scene), tmp_path / "out", str(tmp_path / "store")
    done = segtune.predict("models:/street_fine@champion", image, output, root=store, **QUIET)
    document = json.loads((done.output / "regions.json").read_text())
    assert (
        document["model"] == "models:/street_fine@champion"
        and document["workflow"]["config"]["filter"]["min_area"] == 40
    )


def _image(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def test_a_labeler_for_a_concept_that_the_segmenter_lacks_is_refused(tmp_path, tiny_run):
    ship = write_labeler(tmp_path / "ships", "ship", ("tanker", "ferry"))
    write_workflow(tmp_path, "odd", segmenter=str(tiny_run.segmenter), labelers=[ship])
    with pytest.raises(
        ConfigError, match="labels regions of 'ship', which the segmenter .* lacks; it knows sky"
    ):
        segtune.workflow("odd")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"filter": {"concepts": ["bilding"]}},
            "filter.concepts: bilding: did you mean 'building'",
        ),
        ({"edits": [{"do": "blur", "of": ["rood"]}]}, "edit blur: rood: did you mean 'road'"),
        ({"edits": [{"do": "blurr", "of": ["road"]}]}, "edits.0.*'blurr'"),
        (
            {"edits": [{"do": "blur", "of": ["road"], "sigm": 2}]},
            "sigm: no such key|edits.0.blur.sigm",
        ),
        ({"look": {"smoth": "flow"}}, "look.smoth: did you mean 'smooth'"),
        ({"look": {"smooth": "flwo"}}, "smooth=flwo: did you mean 'flow'"),
        ({"labeler": []}, "labeler: no such key; did you mean 'labelers'"),
        (
            {"segmenter": "models:/nobody@champion"},
            "workflow bad: models:/nobody@champion: no such",
        ),
    ],
)
def test_a_wrong_config_is_refused(tmp_path, tiny_run, config, message):
    write_workflow(tmp_path, "bad", **{"segmenter": str(tiny_run.segmenter), **config})
    with pytest.raises(ConfigError, match=message):
        segtune.workflow("bad", root=str(tmp_path / "store"))


def test_a_labeler_in_the_segmenters_place_is_refused(tmp_path, tiny_run):
    write_workflow(tmp_path, "turned", segmenter=write_labeler(tmp_path / "houses"))
    with pytest.raises(ConfigError, match="is no segmenter; give one in its place"):
        segtune.workflow("turned")


def test_an_unknown_workflow_names_the_nearest():
    with pytest.raises(
        ConfigError, match="workflow=drivng: no such workflow; did you mean 'driving'"
    ):
        segtune.workflow("drivng")


@pytest.mark.parametrize("name", members("workflow"))
def test_every_shipped_workflow_is_valid(name):
    config = parse_settings(WorkflowConfig, load_member("workflow", name), name)
    assert config.title and config.segmenter == "models:/street@champion"
