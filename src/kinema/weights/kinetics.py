"""Where the published weights of every network come from, and fetching those of 3D networks.

torchvision's 3D networks come from torchvision, transformers' from the hub, R(2+1)D on IG-65M
from its authors; 3D ResNets with a 2D ResNet's layers begin with that one's ImageNet weights
(`kinema.models.first_conv.inflate`). 2D networks: `kinema.weights.imagenet`.
"""

import torchvision
from torch import Tensor

from kinema.errors import KinemaError
from kinema.models.backbones import TIMM_BACKBONES
from kinema.models.clip_backbones import is_clip_backbone
from kinema.models.hf_clips import HUB, HUB_NETWORKS, out_of_reach, transformers
from kinema.weights.download import cache_folder, download
from kinema.weights.files import WeightsFile, network_names, read_weights
from kinema.weights.imagenet import first_line, imagenet_weights

_KINETICS = "Kinetics-400"
_TORCHVISION: tuple[str, ...] = (
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
)
_ADDRESSES: dict[str, str] = {
    "r2plus1d_34_ig65m": (
        "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
        "r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth"
    ),
}
# 3D networks with the layer names of a 2D one.
_INFLATED: dict[str, str] = {
    "i3d_resnet50": "resnet50",
    "i3d_resnet101": "resnet101",
    "c2d_resnet50": "resnet50",
    "slowonly_resnet50": "resnet50",
    "slowonly_resnet101": "resnet101",
    **{f"resnet3d{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
}


def published_data(backbone: str) -> str:
    """Return what data the weights of ``model.pretrained`` saw; empty where there are none."""
    if backbone in _TORCHVISION:
        return _KINETICS
    if backbone in _ADDRESSES:
        return "IG-65M, K400"
    if backbone in _INFLATED:
        return "ImageNet 2D"
    if backbone in HUB_NETWORKS:
        return HUB_NETWORKS[backbone].data
    if backbone in TIMM_BACKBONES or backbone == "bn_inception":
        return "ImageNet"
    return ""


def published_weights(backbone: str) -> WeightsFile:
    """Return the published weights of a backbone, for three channels, its classifier included.

    Raises:
        UsageError: an unknown backbone.
        KinemaError: none are published, or they are neither in the cache nor within reach.
    """
    if not is_clip_backbone(backbone):
        return imagenet_weights(backbone)
    if backbone in _INFLATED:
        return imagenet_weights(_INFLATED[backbone])
    hub = _repository(backbone)
    if hub:
        tensors, data = _from_hub(backbone, hub), published_data(backbone)
    elif backbone in _TORCHVISION or backbone in _ADDRESSES:
        tensors, data = _fetch(backbone), published_data(backbone)
    else:
        raise KinemaError(
            f"The backbone '{backbone}' has no published weights that can be fetched: set "
            "model.pretrained=false, or model.weights=FILE with a file that you have. With "
            f"weights: {', '.join(_with_weights())}."
        )
    source = f"the {data} weights of {backbone}" if data else backbone
    return WeightsFile(source=source, tensors=tensors, modality="rgb", backbone=backbone)


def _with_weights() -> list[str]:
    return [*_TORCHVISION, *_ADDRESSES, *_INFLATED, *HUB_NETWORKS]


def _repository(backbone: str) -> str:
    if backbone in HUB_NETWORKS:
        return HUB_NETWORKS[backbone].repository
    return backbone.removeprefix(HUB) if backbone.startswith(HUB) else ""


def _from_hub(backbone: str, repository: str) -> dict[str, Tensor]:
    library = transformers(backbone)
    try:
        network = library.AutoModelForVideoClassification.from_pretrained(repository)
    except (OSError, ValueError) as error:
        raise out_of_reach(backbone, error) from error
    return network_names(network.state_dict())


def _fetch(backbone: str) -> dict[str, Tensor]:
    try:
        if backbone in _ADDRESSES:
            path = download(_ADDRESSES[backbone], folder=cache_folder())
            return dict(read_weights(path).tensors)
        published = torchvision.models.get_model_weights(backbone)["KINETICS400_V1"]
        return network_names(published.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError, KinemaError) as error:
        raise KinemaError(
            f"The {published_data(backbone)} weights of '{backbone}' are not in the cache and "
            f"could not be fetched ({first_line(error)}). Without a network, set "
            "model.pretrained=false to start from random weights, or model.weights=FILE with a "
            "file that you have."
        ) from error
