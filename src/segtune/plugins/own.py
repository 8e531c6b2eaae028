"""Our own parts: name -> `module:name`, imported at the first use. One line here adds a part."""

from segtune.plugins.registry import register

_NETWORKS = "segtune.models.networks"
register("architecture", "Swift", f"{_NETWORKS}.swift:build_swift")
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

_LOSSES = "segtune.models.losses"
register("loss", "cross_entropy", f"{_LOSSES}.cross_entropy:CrossEntropy")
register("loss", "dice", f"{_LOSSES}.dice:soft_dice")
register("loss", "focal", f"{_LOSSES}.focal:Focal")
register("loss", "lovasz", f"{_LOSSES}.lovasz:Lovasz")
register("loss", "masks", f"{_LOSSES}.masks:MaskClassificationLoss")  # on queries, not logits
