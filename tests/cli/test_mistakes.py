"""Mistakes of users of MMSegmentation, Ultralytics, nnU-Net, Lightning or Hydra: one message each.

A row is the words, the exit code, and what the message must contain.
"""

import json
import shlex

import pytest

from segtune.cli.main import main

MISTAKES = [
    # verbs of other tools
    ("fit", 2, "segtune train"),
    ("run template=unet", 2, "segtune train"),
    ("tune quickstart", 2, "segtune sweep"),
    ("search quickstart", 2, "segtune sweep"),
    ("val models:/street@champion", 2, "segtune evaluate"),
    ("test models:/street@champion", 2, "segtune evaluate"),
    ("eval RUN", 2, "segtune evaluate"),
    ("infer photo.jpg", 2, "segtune predict"),
    ("segment train data=x.yaml", 2, "segtune predict"),
    ("report quickstart", 2, "segtune compare"),
    ("deploy RUN", 2, "segtune promote"),
    ("models", 2, "segtune templates"),
    ("convert labels", 2, "segtune export"),
    ("trian", 2, "'train'"),
    ("--train", 2, "a verb comes first"),
    ("hp.num_epochs=5", 2, "segtune train hp.num_epochs=5"),
    ("-m train", 2, "segtune sweep NAME"),
    # keys of other tools
    ("train lr=1e-3", 2, "hp.per_item_lrate"),
    ("train hp.lr=1e-3", 2, "hp.per_item_lrate"),
    ("train optimizer.lr=1e-3", 2, "hp.per_item_lrate"),
    ("train epochs=10", 2, "hp.num_epochs"),
    ("train trainer.max_epochs=10", 2, "hp.num_epochs"),
    ("train batch_size=4", 2, "hp.batch_size"),
    ("train batch=4", 2, "hp.batch_size"),
    ("train data.batch_size=4", 2, "hp.batch_size"),
    ("train imgsz=640", 2, "hp.image_size"),
    ("train model=unet", 2, "template=NAME"),
    ("train model.backbone=resnet50", 2, "hp.encoder"),
    ("train backbone=resnet50", 2, "hp.encoder"),
    ("train encoder=resnet50", 2, "hp.encoder"),
    ("train data=camvid", 2, "dataset=NAME"),
    ("train data_root=/data", 2, "dataset.root"),
    ("train dataset.path=/data", 2, "dataset.root"),
    ("train num_classes=3", 2, "dataset.classes"),
    ("train device=0", 2, "trainer=gpu"),
    ("train gpus=2", 2, "trainer.devices"),
    ("train num_workers=4", 2, "trainer.workers"),
    ("train amp=true", 2, "trainer.precision"),
    ("train patience=10", 2, "trainer.early_stopping"),
    ("train pretrained=true", 2, "hp.pretrained_weights"),
    ("train fold=0", 2, "dataset.splits.fold"),
    ("train work_dir=out", 2, "tracking.root"),
    ("train n_trials=4", 2, "sweep.n_trials"),
    # flags of other tools
    ("train --epochs 10", 2, "hp.num_epochs"),
    ("train --batch-size 4", 2, "hp.batch_size"),
    ("train --template unet", 2, "write template=VALUE"),
    ("train --hp.num_epochs=4", 2, "write hp.num_epochs=4"),
    ("train -m hp.batch_size=4,8", 2, "segtune sweep NAME"),
    ("train --multirun hp.batch_size=4,8", 2, "sweeps/NAME.yaml"),
    ("train --config-dir configs", 2, "SEGTUNE_CONF=DIR"),
    ("train --config-name=quick", 2, "hp=quick"),
    ("train --cfg job", 2, "--print-config"),
    ("train hydra.run.dir=out", 2, "tracking.root=DIR"),
    ("train --dry-run", 2, "no such flag"),
    ("sweep quickstart --dryrun", 2, "'--dry-run'"),
    ("check dataset=street --fix=true", 2, "takes no value"),
    ("check dataset=street fix=true", 2, "write --fix"),
    ("compare quickstart --json=1", 2, "takes no value"),
    ("compare quickstart --baseline", 2, "baseline=NAME"),
    ("compare quickstart output=", 2, "output=DIR"),
    ("compare quickstart baselin=x", 2, "'baseline'"),
    # words without a key
    ("train street", 2, "dataset=street"),
    ("train unet", 2, "template=unet"),
    ("train unett", 2, "template=unet"),
    ("train quickstart", 2, "segtune sweep quickstart"),
    ("train sweeps/quickstart.yaml", 2, "segtune sweep sweeps/quickstart.yaml"),
    ("train my/images", 2, "dataset=folder dataset.root=my/images"),
    ("check my/images", 2, "dataset=folder dataset.root=my/images"),
    ("train configs/unet_r50.yaml", 2, "conf"),
    ("train epochs 10", 2, "not key=value"),
    ("rollback street", 2, "model=street"),
    ("export models:/street@champion", 2, "model=models:/street@champion"),
    ("sweep unet", 2, "is not in sweeps/"),
    ("sweep a b", 2, "one sweep"),
    ("templates unett", 2, "'unet'"),
    # values
    ("train template=UNet", 2, "unet"),
    ("train template=segformr", 2, "segformer"),
    ("train dataset=cityscape", 2, "cityscapes"),
    ("train hp.batch_size=1000", 2, "1..64"),
    ("train hp.batch_size=four", 2, "integer"),
    ("train hp.batch_size=4,8", 2, "segtune sweep NAME"),
    ("train hp.image_size=[9]", 2, "hp.image_size"),
    ("train loss=cross_entropy", 2, "ce"),
    ("train loss.weight=2", 2, "no such key"),
    ("train trainer.threads=0", 2, "greater than or equal to 1"),
    ("train trainer.precision=16", 2, "bf16"),
    ("train seed=abc", 2, "seed"),
    ("train dataset=folder", 2, "dataset.root"),
    ("train dataset=folder dataset.root=nowhere dataset.classes=[a,b]", 3, "does not exist"),
    ("train 'dataset.classes=[it's]'", 2, "quote"),
    ("train resume=nothing", 2, "not in the store"),
    ("sweep quickstart n_trials=3", 2, "sweep.n_trials"),
    ("sweep quickstart sweep.trials=3", 2, "n_trials"),
    ("sweep quickstart sweep.n_trials=many", 2, "n_trials"),
    # other verbs
    ("promote quickstart", 2, "model=NAME"),
    ("promote quickstart model=a gate=vall", 2, "'val'"),
    ("promote quickstart model=a gate.max_ec=1", 2, "max_ece"),
    ("promote quickstart model=a max_ece=1", 2, "gate"),
    ("predict photo.jpg", 2, "model=URI"),
    ("predict model=x source=photo.jpg formats=png", 2, "overlays"),
    ("predict model=x source=photo.jpg tile=0", 2, "above 0"),
    ("predict model=x source=photo.jpg device=cpu", 2, "no such key"),
    ("import labels", 2, "output=DIR"),
    ("import labels out", 2, "output=DIR"),
    ("import nowhere output=out", 3, "does not exist"),
    ("confirm quickstart top=0", 2, "above 0"),
    ("confirm quickstart top=all", 2, "whole number"),
    ("evaluate", 2, "give one"),
    ("compare runs/one", 2, "not in the store"),
    ("config los", 2, "loss"),
    ("config epochs", 2, "hp.num_epochs"),
    ("config trainer.thread", 2, "trainer.threads"),
]  # fmt: skip


def split(line: str) -> list[str]:
    if "it's" in line:  # no shell splits it
        return ["train", "dataset.classes=[it's]"]
    return shlex.split(line)


@pytest.mark.parametrize(
    ("line", "code", "message"), MISTAKES, ids=[line for line, _, _ in MISTAKES]
)
def test_a_mistake_gets_one_message_that_names_the_right_word(
    line, code, message, capsys, tmp_path
):
    assert main([*split(line), "--json"]) == code
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert captured.err.count("\n") == 1 and len(captured.err) < 700
    error = json.loads(captured.out)
    assert error["exit_code"] == code and message in error["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_the_table_is_long_enough_and_has_no_row_twice():
    assert len({line for line, _, _ in MISTAKES}) == len(MISTAKES) >= 60
