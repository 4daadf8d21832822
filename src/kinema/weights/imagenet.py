"""Published ImageNet weights by backbone name, fetched once by whoever publishes them.

torchvision's networks come from torchvision, BN-Inception from its converted Caffe file, all
others through timm. Each keeps the file in its usual cache, so a second run needs no network.
"""

from pathlib import PurePosixPath
from urllib.parse import urlparse

import torchvision

from kinema.errors import KinemaError, UsageError
from kinema.models.backbones import TIMM_BACKBONES, create_backbone
from kinema.weights.download import cache_folder, download
from kinema.weights.files import WeightsFile, network_names, read_weights

_BN_INCEPTION_URL = "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth"
_BN_INCEPTION_SHA256 = "52deb473314542a5c2f87e9e6f26f4ca42fe863d15f986414dbae8c2dfdd2353"


def imagenet_weights(backbone: str) -> WeightsFile:
    """Return the three-channel ImageNet weights of a backbone, its classifier included.

    Raises:
        UsageError: an unknown backbone.
        KinemaError: none are published, or they are neither in the cache nor within reach.
    """
    if backbone == "tiny":
        raise KinemaError(
            "The backbone 'tiny' has no ImageNet weights: set model.pretrained=false, or choose "
            "another model.backbone."
        )
    try:
        return _fetch(backbone)
    except UsageError:
        raise
    except (OSError, RuntimeError, KinemaError) as error:
        raise KinemaError(
            f"The ImageNet weights of '{backbone}' are not in the cache and could not be fetched "
            f"({first_line(error)}). Without a network, set model.pretrained=false to start from "
            "random weights, or model.weights=FILE with a file that you have."
        ) from error


def _fetch(backbone: str) -> WeightsFile:
    source = f"the ImageNet weights of {backbone}"
    if backbone == "bn_inception":
        name = PurePosixPath(urlparse(_BN_INCEPTION_URL).path).name
        cached = cache_folder() / name
        path = (
            cached
            if cached.is_file()
            else download(_BN_INCEPTION_URL, folder=cache_folder(), sha256=_BN_INCEPTION_SHA256)
        )
        tensors = read_weights(path).tensors
    elif TIMM_BACKBONES.get(backbone, "").endswith(".tv_in1k"):
        published = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"]
        tensors = network_names(published.get_state_dict(progress=False, check_hash=True))
    else:
        tensors = network_names(create_backbone(backbone, pretrained=True).state_dict())
    return WeightsFile(source=source, tensors=tensors, modality="rgb", backbone=backbone)


def first_line(error: BaseException) -> str:
    """Return what an error says in its first line, for a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
