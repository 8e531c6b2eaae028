"""Our own parts: name -> `module:name`, imported at the first use. One line here adds a part."""

from segtune.plugins.registry import register

_NETWORKS = "segtune.models.networks"
register("architecture", "Swift", f"{_NETWORKS}.swift:build_swift")
register("architecture", "Lite", f"{_NETWORKS}.lite:build_lite")
register("architecture", "Eomt", f"{_NETWORKS}.eomt:build_eomt")
register("architecture", "Unet", f"{_NETWORKS}.smp:unet")
register("architecture", "UnetPlusPlus", f"{_NETWORKS}.smp:unet_plus_plus")
register("architecture", "FPN", f"{_NETWORKS}.smp:fpn")
register("architecture", "DeepLabV3Plus", f"{_NETWORKS}.smp:deeplab_v3_plus")
register("architecture", "UPerNet", f"{_NETWORKS}.smp:upernet")
register("architecture", "PSPNet", f"{_NETWORKS}.smp:pspnet")
register("architecture", "Linknet", f"{_NETWORKS}.smp:linknet")
register("architecture", "Segformer", f"{_NETWORKS}.smp:segformer")
register("architecture", "DPT", f"{_NETWORKS}.smp:dpt")
register("architecture", "Ensemble", "segtune.models.ensemble:build_ensemble")

_LOSSES = "segtune.models.losses"
register("loss", "cross_entropy", f"{_LOSSES}.cross_entropy:CrossEntropy")
register("loss", "dice", f"{_LOSSES}.dice:soft_dice")
register("loss", "focal", f"{_LOSSES}.focal:Focal")
register("loss", "lovasz", f"{_LOSSES}.lovasz:Lovasz")
register("loss", "masks", f"{_LOSSES}.masks:MaskClassificationLoss")  # on queries, not logits

_OPTIM = "segtune.models.optim"
register("optimizer", "adamw", f"{_OPTIM}.optimizer:adamw")
register("optimizer", "sgd", f"{_OPTIM}.optimizer:sgd")
register("optimizer", "muon", f"{_OPTIM}.optimizer:muon")
register("scheduler", "constant", f"{_OPTIM}.schedule:constant")
register("scheduler", "poly", f"{_OPTIM}.schedule:poly")
register("scheduler", "cosine", f"{_OPTIM}.schedule:cosine")

_LIBRARIES = "segtune.data.batches.libraries"
register("augmentation", "torchvision", f"{_LIBRARIES}:Torchvision")
register("augmentation", "albumentations", f"{_LIBRARIES}:Albumentations")

_METRICS = "segtune.measure.table"
register("metric", "miou", f"{_METRICS}:miou", each_epoch=True)
register("metric", "pixel_accuracy", f"{_METRICS}:pixel_accuracy", each_epoch=True)
register("metric", "region_accuracy", f"{_METRICS}:region_accuracy", each_epoch=True)
register("metric", "mean_dice", f"{_METRICS}:mean_dice", each_epoch=True)
register("metric", "fwiou", f"{_METRICS}:fwiou", each_epoch=True)
register("metric", "iou", f"{_METRICS}:iou", each_epoch=True)
register("metric", "boundary_iou", f"{_METRICS}:mean_boundary_iou")
register("metric", "ece", f"{_METRICS}:ece", direction="minimize")

register("logger", "tensorboard", "segtune.training.loggers:TensorBoardLogger")
register("logger", "wandb", "segtune.training.loggers:WandbLogger")

register("sampler", "tpe", "optuna.samplers:TPESampler")
register("sampler", "gp", "optuna.samplers:GPSampler")
register("sampler", "cmaes", "optuna.samplers:CmaEsSampler")
register("sampler", "qmc", "optuna.samplers:QMCSampler")
register("sampler", "nsgaii", "optuna.samplers:NSGAIISampler")
register("sampler", "random", "optuna.samplers:RandomSampler")
register("sampler", "grid", "optuna.samplers:RandomSampler")  # the study enumerates the space

_PRUNERS = "segtune.sweeping.engine.samplers"
register("pruner", "none", "optuna.pruners:NopPruner")
register("pruner", "median", f"{_PRUNERS}:median")
register("pruner", "halving", f"{_PRUNERS}:halving")
register("pruner", "hyperband", f"{_PRUNERS}:hyperband")
register("pruner", "patient", f"{_PRUNERS}:patient")

_LAUNCHERS = "segtune.sweeping.launchers"
register("launcher", "local", f"{_LAUNCHERS}:launch_local")
register("launcher", "slurm", f"{_LAUNCHERS}:launch_slurm")
register("launcher", "ray", f"{_LAUNCHERS}:launch_ray")

# in the order of detection: the more particular first
_FORMATS = "segtune.data.formats"
register("reader", "coco_panoptic", f"{_FORMATS}.coco_panoptic:")
register("reader", "coco", f"{_FORMATS}.coco:")
register("reader", "label_studio", f"{_FORMATS}.label_studio:")
register("reader", "labelme", f"{_FORMATS}.labelme:")
register("reader", "cvat", f"{_FORMATS}.cvat:")
register("reader", "voc", f"{_FORMATS}.voc:")
register("reader", "yolo", f"{_FORMATS}.yolo:")
register("reader", "roboflow_masks", f"{_FORMATS}.roboflow_masks:")
register("reader", "via", f"{_FORMATS}.via:")
register("reader", "supervisely", f"{_FORMATS}.supervisely:")
register("reader", "cityscapes_polygons", f"{_FORMATS}.cityscapes_polygons:")
register("reader", "sa1b", f"{_FORMATS}.sa1b:")
register("reader", "kaggle_rle", f"{_FORMATS}.kaggle_rle:")
register("reader", "instances", f"{_FORMATS}.instances:")
register("reader", "manifest", f"{_FORMATS}.manifest:")
register("reader", "oxford_pets", f"{_FORMATS}.oxford_pets:")
register("reader", "huggingface", f"{_FORMATS}.huggingface:")
register("reader", "class_masks", f"{_FORMATS}.class_masks:")

_OUTPUTS = "segtune.inference.prediction.formats"
register("writer", "masks", f"{_OUTPUTS}:Masks")
register("writer", "overlays", f"{_OUTPUTS}:Overlays")
register("writer", "regions", f"{_OUTPUTS}:Polygons")
register("writer", "coco", f"{_OUTPUTS}:Coco")
register("writer", "geojson", f"{_OUTPUTS}:GeoJson")
register("writer", "yolo", f"{_OUTPUTS}:Yolo")
register("writer", "clarifai", f"{_OUTPUTS}:Clarifai")

_ENGINES = "segtune.inference.engines.engine"
register("engine", "auto", f"{_ENGINES}:fastest_engine")
register("engine", "eager", f"{_ENGINES}:eager")
register("engine", "bf16", f"{_ENGINES}:folded_bf16")
register("engine", "onnx", f"{_ENGINES}:onnx_graph")
register("engine", "openvino", f"{_ENGINES}:openvino_graph")
