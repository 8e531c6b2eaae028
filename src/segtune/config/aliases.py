"""Names of our keys in other frameworks, for hints in messages."""

from collections.abc import Mapping

_KEYS = {
    "hp.per_item_lrate (the learning rate is hp.batch_size * hp.per_item_lrate)": (
        "lr learning_rate lr0 base_lr max_lr initial_lr lrate optim.lr optimizer.lr "
        "optimizer.learning_rate"
    ),
    "hp.num_epochs": (
        "epochs max_epochs n_epochs num_epochs epoch max_iters iterations steps max_steps "
        "trainer.epochs "
        "trainer.max_epochs trainer.num_epochs trainer.max_steps"
    ),
    "hp.batch_size": (
        "batch batch_size bs train_batch_size samples_per_gpu data.batch_size "
        "dataset.batch_size trainer.batch_size"
    ),
    "hp.image_size, as [512]": (
        "imgsz img_size image_size input_size resize size resolution data.image_size "
        "dataset.image_size"
    ),
    "hp.encoder": "backbone encoder encoder_name model.encoder model.backbone",
    "hp.pretrained_weights": "pretrained weights init_weights encoder_weights",
    "hp.pretrained_weights, or resume=RUN": "load_from checkpoint ckpt",
    "template=NAME": "model arch architecture net network decoder head plans model.name model.arch",
    "dataset=NAME, or dataset=folder dataset.root=DIR": "data data.name datamodule ds",
    "dataset.root": (
        "path root data_root data_dir dataset_path data.root dataset.path dataset.dir "
        "dataset.data_root paths.data_dir"
    ),
    "dataset.classes": (
        "classes names class_names nc num_classes n_classes dataset.num_classes dataset.names"
    ),
    "dataset.ignore, as [255]": "ignore_index ignore_label dataset.ignore_index",
    "dataset.splits.fold": "fold dataset.fold",
    "dataset.splits.folds": "folds dataset.folds k",
    "dataset.splits.val": "val_split val_fraction val_ratio",
    "augment.crop_size": "crop crop_size patch_size",
    "augment=NAME": "aug augmentation augmentations transforms",
    "trainer=cpu, trainer=gpu or trainer.accelerator": "device accelerator cuda gpu",
    "trainer.accelerator": "trainer.device trainer.gpu",
    "trainer.devices": "gpus devices num_gpus n_gpus trainer.gpus",
    "trainer.workers": (
        "workers num_workers n_jobs trainer.num_workers data.num_workers dataset.num_workers"
    ),
    "trainer.threads": "threads num_threads",
    "trainer.precision": "amp fp16 half bf16 mixed_precision precision",
    "trainer.ema_decay": "ema ema_decay",
    "trainer.early_stopping": "patience early_stopping early_stop",
    "trainer.accumulate": (
        "accumulate grad_accum gradient_accumulation_steps accumulate_grad_batches "
        "trainer.accumulate_grad_batches"
    ),
    "trainer.gradient_clip": (
        "grad_clip clip gradient_clip_val clip_grad_norm trainer.gradient_clip_val"
    ),
    "trainer.minutes": "minutes time max_time trainer.max_time",
    "trainer.val_every": "val_interval val_every trainer.check_val_every_n_epoch",
    "trainer.compile": "compile torch_compile",
    "trainer.deterministic": "deterministic benchmark",
    "optimizer=NAME": "opt optim",
    "optimizer.weight_decay": "weight_decay wd decay",
    "optimizer.momentum": "momentum",
    "scheduler=NAME": "sched lr_scheduler schedule lr_schedule",
    "scheduler.warmup": "warmup warmup_epochs warmup_steps warmup_ratio",
    "loss=NAME": "criterion loss_fn losses loss_function",
    "loss.teacher": "teacher distill distillation teacher_model",
    "dataset.unlabelled": "unlabelled unlabeled dataset.unlabeled unlabelled_dir",
    "loss.class_weights": "class_weights class_weight weight",
    "loss.label_smoothing": "label_smoothing",
    "sampling=NAME, or sweep.sampler for a sweep": "sampler",
    "tuning=full, slow_encoder, head or lora": "lora freeze freeze_encoder frozen finetune",
    "tuning.encoder_lr": "encoder_lr backbone_lr lr_mult backbone_lr_mult",
    "hp=NAME, which chooses a recipe": "config cfg experiment recipe",
    "tracking.experiment": "name run_name project experiment_name tracking.experiment_name",
    "tracking.root": "output output_dir out work_dir save_dir log_dir logger mlflow store",
    "tracking.uri": "tracking_uri mlflow_uri mlflow_tracking_uri",
    "seed": "random_seed random_state manual_seed trainer.seed",
    "resume=RUN": "run resume_from ckpt_path resume_from_checkpoint continue",
    "labeler.concept": "concept",
    "sweep.n_trials": "n_trials trials num_trials max_trials",
    "sweep.budget": "budget timeout",
    "sweep.storage": "storage",
    "sweep.pruner": "pruner",
}


def by_alias(table: Mapping[str, str]) -> dict[str, str]:
    """Return alias -> entry, from a table of entry -> its aliases in one text.

    >>> by_alias({"hp.encoder": "backbone encoder"})
    {'backbone': 'hp.encoder', 'encoder': 'hp.encoder'}
    """
    entries: dict[str, str] = {}
    for entry, aliases in table.items():
        entries |= dict.fromkeys(aliases.split(), entry)
    return entries


KEYS = by_alias(_KEYS)
"""Key of another framework -> the key here."""


def alias_hint(key: str) -> str:
    """Return a hint that names our key for a key of another framework; empty for other keys.

    >>> alias_hint("epochs"), alias_hint("model.depth")
    ('here it is hp.num_epochs', 'here it is template=NAME')
    """
    key = key.lower().replace("-", "_")
    name = KEYS.get(key) or KEYS.get(key.split(".")[0])
    return f"here it is {name}" if name else ""
