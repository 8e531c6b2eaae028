"""A plugin's model and loss in training, prediction, a sweep and a command."""

import hashlib
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import segtune
from segtune.cli.main import main
from segtune.config.compose import compose
from segtune.config.schema import LossConfig, TuningConfig
from segtune.errors import ConfigError
from segtune.inference.engines.graphs import to_onnx
from segtune.models.build import build
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.pretrained import copy_weights
from segtune.models.tuning import apply_tuning
from segtune.plugins import registry
from segtune.plugins.given import GIVEN
from segtune.plugins.loading import load_plugins, needed_plugins
from segtune.serving.answers import answer, chosen
from segtune.sweeping import launchers
from segtune.sweeping.search_keys import setting_dimension
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.worker import WorkerTask
from tests.conftest import SCENES

RUN = [
    *SCENES,
    "template=TinyNet",
    "loss.terms={tversky: 1.0}",
    "trainer=debug",
    "hp.image_size=[64]",
    "hp.batch_size=3",
    "hp.num_epochs=1",
]


def forget() -> None:
    """Forget all plugins, as a new process has none."""
    for key in [k for k, part in registry._parts.items() if part.plugin is not None]:
        del registry._parts[key]
    sys.modules.pop("mylab", None)
    GIVEN.clear()


def test_a_run_records_its_plugin_and_says_what_is_missing_without_it(mylab, tmp_path, monkeypatch):
    store = f"tracking.root={tmp_path}/store"
    words = [*RUN, "hp.width=8", "loss.options.tversky.alpha=0.6", store]
    result = segtune.train(*words, plugins=[str(mylab)], say=lambda _: None)
    segmenter = segtune.load(result.segmenter)
    record = segmenter.info["plugins"]["architecture/TinyNet"]
    assert record["name"] == "mylab"
    assert record["sha256"] == hashlib.sha256(mylab.read_bytes()).hexdigest()
    assert segmenter.info["model"] == {"architecture": "TinyNet", "width": 8}
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert segmenter.segment(image).mask.shape == (64, 96)
    forget()
    message = r"needs the architecture 'TinyNet' of plugin 'mylab'.*plugins=.*mylab.py"
    with pytest.raises(ConfigError, match=message):
        segtune.load(result.segmenter)
    assert "mylab" not in sys.modules, "a model imports nothing"
    with pytest.raises(ConfigError, match=f"run {result.run_id} needs the (loss|architecture)"):
        segtune.train(f"resume={result.run_id}", store)
    assert "mylab" not in sys.modules, "a recorded run imports nothing"
    assert main(["serve", f"model={result.segmenter}"]) == 2
    served = []
    monkeypatch.setattr("segtune.serving.server.serve", lambda slot, *_: served.append(slot))
    assert main(["serve", f"model={result.segmenter}", f"plugins={mylab}", "runtime=eager"]) == 0
    found = served[0].current.model.segment(image)
    np.testing.assert_array_equal(found.mask, segmenter.segment(image).mask)
    forget()
    again = segtune.load(result.segmenter, plugins=[str(mylab)])
    np.testing.assert_array_equal(again.segment(image).mask, segmenter.segment(image).mask)


def test_the_options_of_parts_are_typed_settings(mylab):
    load_plugins([str(mylab)])
    config = compose([*RUN]).config
    assert config.hp["width"] == 16
    assert config.loss.options == {"tversky": {"alpha": 0.3}}, "recorded with their defaults"
    for word, message in (
        ("hp.width=2", r"hp.width=2: allowed is 4..64"),
        ("loss.options.tversky.alpha=2", r"loss.options.tversky: alpha=2: .*less than or equal"),
        ("loss.options.tversky.alhpa=1", r"alhpa: .*no such option; did you mean 'alpha'"),
        ("loss.options.dice.x=1", r"loss.options.dice: the terms name no such loss"),
        ("loss.terms={tverski: 1}", r"loss.terms=tverski: no such loss; did you mean 'tversky'"),
    ):
        with pytest.raises(ConfigError, match=message):
            compose([*RUN, word])


def test_a_sweep_knows_the_type_of_an_option(mylab):
    load_plugins([str(mylab)])
    dimension = setting_dimension("loss.options.tversky.alpha", {"min": 0, "max": 1})
    assert not dimension.is_int
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        setting_dimension("loss.options.tversky.alhpa", {"min": 0, "max": 1})
    assert not setting_dimension("augment.parts.fog.density", {"min": 0, "max": 1}).is_int


def test_config_shows_the_options_of_plugins(mylab, capsys):
    assert main(["config", "loss", f"plugins={mylab}"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "tversky" in x]
    assert line.startswith("loss.options.tversky.alpha") and "default 0.3" in line
    assert "number (>= 0 and <= 1)" in line
    assert main(["config", "hp", f"plugins={mylab}"]) == 0
    assert "hp.width" in capsys.readouterr().out


def test_a_part_without_its_plugin_is_explained():
    with pytest.raises(ConfigError, match=r"no such loss.*plugins=FILE.py.*SEGTUNE_PLUGINS"):
        compose(["loss.terms={tversky: 1.0}"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return nn.Conv2d(3, 2, 1)", r"returns \(1, 2, 64, 64\) .* expected are logits \(1, 4"),
        ("return nn.Identity()", r"returns \(1, 3, 64, 64\)"),
        ("return nn.Conv2d(4, num_classes, 1)", r"cannot process an image .* RuntimeError"),
        ("return 3", "returns a int; expected is a torch module"),
        ("return nn.Upsample(scale_factor=9)", r"returns \(1, 3, 576, 576\)"),
    ],
)
def test_an_architecture_with_the_wrong_output_is_refused(write_plugin, body, message):
    head = "from torch import nn\n@segtune.register('architecture', 'Net')\ndef net(num_classes):\n"
    text = f"{head}    {body}"
    load_plugins([str(write_plugin(text))])
    with pytest.raises(ConfigError, match=message):
        build({"architecture": "Net"}, 4)


def test_weights_of_a_plugins_network_start_another(mylab, tmp_path):
    load_plugins([str(mylab)])
    model = {"architecture": "TinyNet", "width": 4}
    first, second = build(model, 3), build(model, 3)
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    assert copy_weights(second, tmp_path / "weights.safetensors", ["a", "b", "c"]) > 3
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    with pytest.raises(ConfigError, match="names no encoder"):
        apply_tuning(TuningConfig(encoder="frozen"), first, "weights.safetensors")


def test_an_architecture_that_cannot_be_traced_gives_one_message_on_export(write_plugin, tmp_path):
    pytest.importorskip("onnxscript", reason="needs segtune[export]")
    text = (
        "import torch\n@segtune.register('architecture', 'Net')\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, num_classes):\n        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, num_classes, 1)\n"
        "    def forward(self, x):\n"
        "        return self.conv(x if float(x.mean()) > 0 else -x)\n"
    )
    load_plugins([str(write_plugin(text))])
    model = build({"architecture": "Net"}, 4)
    with pytest.raises(ConfigError, match="this architecture cannot be exported"):
        to_onnx(model, tmp_path / "x.onnx", (64, 64))


def test_a_server_answers_in_the_form_of_a_plugins_writer(write_plugin):
    text = "@segtune.register('writer', 'names', suffix='.lst')\n"
    load_plugins([str(write_plugin(text + "def names(image, regions): return image.name"))])
    served = SimpleNamespace(model=SimpleNamespace(classes=None))
    image = SimpleNamespace(served=served, regions=[])
    assert chosen("names,yolo", "") == ["names", "yolo"]
    assert answer(image, chosen("", "text/vnd.segtune.names"), "a.png").body == b"a.png"


def test_a_loss_that_is_no_scalar_is_refused(write_plugin):
    text = "@segtune.register('loss', 'raw')\ndef raw(logits, mask, ignore_index): return logits"
    load_plugins([str(write_plugin(text))])
    loss = SegmentationLoss(LossConfig(terms={"raw": 1.0}), [0.5, 0.5])
    with pytest.raises(ConfigError, match=r"loss 'raw' returns \(1, 2, 4, 4\)"):
        loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))


def test_every_verb_takes_plugins_and_printed_commands_repeat_them(mylab, capsys):
    assert main(["templates", f"plugins={mylab}"]) == 0
    assert "TinyNet" in capsys.readouterr().out
    from segtune.config.commands import command

    assert f"plugins={mylab}" in command("compare", "x")
    assert main(["templates", "plugins=gone.py"]) == 2
    assert "gone.py: no such file" in capsys.readouterr().err
    assert main(["templates", "plugins="]) == 2


CANARY = "from pathlib import Path\nPath('{}').touch()\n"


@pytest.fixture
def canary(tmp_path):
    """A plugin that leaves a file when it is imported."""
    sign = tmp_path / "sign"
    (tmp_path / "evil.py").write_text(CANARY.format(sign))
    yield sign
    assert not sign.exists(), "the plugin was imported"
    load_plugins([str(tmp_path / "evil.py")])
    assert sign.exists(), "the canary lives"


@pytest.mark.parametrize(
    "plugins", ["evil.py", ["evil.py"], {"loss/dice": {"name": "evil", "source": "evil.py"}}]
)
def test_a_conf_folder_beside_the_data_loads_no_plugin(canary, tmp_path, plugins):
    conf = tmp_path / "conf" / "trainer"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text(
        "# @package _global_\n" + yaml.safe_dump({"plugins": plugins, "trainer": {}})
    )
    if isinstance(plugins, dict):  # the form of a record: it is read, and replaced
        assert compose(["trainer=mine"]).config.plugins == {}
        return
    with pytest.raises(ConfigError, match="plugins"):
        compose(["trainer=mine"])


@pytest.mark.parametrize(
    "word", ["plugins=evil.py", "+plugins=evil.py", "plugins.a.source=evil.py"]
)
def test_an_override_in_a_sweep_file_loads_no_plugin(canary, tmp_path, word):
    (tmp_path / "sweeps").mkdir()
    sweep = {"n_trials": 1, "overrides": [word], "search": {"hp.width": [16]}}
    (tmp_path / "sweeps/mine.yaml").write_text(yaml.safe_dump(sweep))
    with pytest.raises(ConfigError, match="plugins are code, and no key of a config names them"):
        segtune.plan_sweep("mine")


def test_a_dataset_file_loads_no_plugin(canary, tmp_path):
    (tmp_path / "roads").mkdir()
    (tmp_path / "roads/classes.yaml").write_text("plugins: evil.py\nclasses: [a, b]\n")
    with pytest.raises(segtune.errors.SegtuneError):
        segtune.train("dataset=folder", "dataset.root=roads", say=lambda _: None)


@pytest.mark.parametrize("body", ["return 1 / 0", "return torch.zeros(2) @ logits"])
def test_an_error_in_the_code_of_a_plugin_names_the_plugin(write_plugin, capsys, body):
    head = "import torch\n@segtune.register('loss', 'bad')\ndef bad(logits, mask, ignore_index):\n"
    path = write_plugin(f"{head}    {body}")
    words = [w for w in RUN if not w.startswith(("template", "loss"))]
    words += ["template=swift", "hp.width=16", "loss.terms={bad: 1.0}", f"plugins={path}"]
    assert main(["train", *words]) == 2
    err = capsys.readouterr().err
    assert "ConfigError: plugin 'somelab' fails: " in err and f"({path}, line 5)" in err
    assert "fault of segtune" not in err


@pytest.mark.parametrize("launcher", ["local", "slurm", "ray"])
def test_the_task_of_a_worker_names_the_plugins(launcher, mylab, tmp_path, monkeypatch):
    load_plugins([str(mylab)])
    spec = {"name": "s", "n_trials": 1, "search": {"hp.width": [4]}, "launcher": launcher}
    task = WorkerTask(SweepSpec(**spec), tmp_path, "", 1, tuple(needed_plugins()))
    sent = []
    process = SimpleNamespace(wait=lambda: 0)
    for module in ("slurm_worker", "launchers"):
        start = f"segtune.sweeping.{module}.start"
        monkeypatch.setattr(start, lambda words, text, **_: sent.append(text) or process)
    if launcher == "slurm":
        slurm_worker = pytest.importorskip("segtune.sweeping.slurm_worker")
        pickle.loads(pickle.dumps(slurm_worker.SlurmWorker(task, "w")))()
    elif launcher == "ray":
        launchers._run_worker(["w"], task.to_json())
    else:
        launchers._LocalWorkers(task, None, "")
    forget()
    assert WorkerTask.parse(sent[0]).plugins == (str(mylab.resolve()),)
    assert "TinyNet" in registry.parts("architecture")


SOMEWHERE = [
    pytest.param([], marks=[pytest.mark.slow, pytest.mark.ci], id="local"),
    pytest.param(
        ["sweep.launcher=slurm", "sweep.slurm={cluster: local}"],
        marks=pytest.mark.services,
        id="slurm",
    ),
    pytest.param(["sweep.launcher=ray"], marks=pytest.mark.ray, id="ray"),
]


@pytest.mark.parametrize("launcher", SOMEWHERE)
def test_the_workers_of_a_sweep_load_the_plugin(mylab, tmp_path, launcher):
    (tmp_path / "sweeps").mkdir()
    search = {"hp.width": [4, 8, 12], "loss.options.tversky.alpha": [0.3, 0.7]}
    sweep = {"n_trials": 4, "workers": 2, "overrides": RUN, "search": search}
    (tmp_path / "sweeps/widths.yaml").write_text(yaml.safe_dump(sweep))
    words = ["sweep", "widths", f"plugins={mylab}", *launcher]
    command = [sys.executable, "-m", "segtune", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 finished, 0 pruned, 0 failed" in done.stdout
    assert f"plugins={mylab}" in done.stdout
