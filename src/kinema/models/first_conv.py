"""The first convolution: where it is, and how RGB weights become weights for other inputs."""

from torch import Tensor, nn


def first_conv_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the names of the convolutions that read the image (one, but for some timm stems).

    timm declares them; other networks are taken to register them first. Empty where there is none.
    """
    declared = getattr(backbone, "pretrained_cfg", {}).get("first_conv")
    if declared:
        return (declared,) if isinstance(declared, str) else tuple(declared)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return (name,)
    return ()


def cross_modality(weight_OIHW: Tensor, *, channels: int) -> Tensor:
    """Return first-convolution weights for `channels` input channels of another modality.

    The mean over the input channels, repeated without rescaling: every new channel starts with
    the same filter (Wang et al., arXiv 1507.02159, section 3.2). The bias stays as it is.

    Returns:
        (O, `channels`, H, W).
    """
    mean = weight_OIHW.float().mean(1, keepdim=True).to(weight_OIHW.dtype)
    return mean.repeat(1, channels, 1, 1)
