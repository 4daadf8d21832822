"""Kernels of published weights for other inputs: other modalities, and clips instead of images."""

from torch import Tensor, nn


def first_conv_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the names of the convolutions that read the image (one, but for some timm stems).

    timm declares them; other networks are taken to register them first. Empty where there is none.
    """
    declared = getattr(backbone, "pretrained_cfg", {}).get("first_conv")
    if declared:
        return (declared,) if isinstance(declared, str) else tuple(declared)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return (name,)
    return ()


def cross_modality(weight: Tensor, *, channels: int) -> Tensor:
    """Return first-convolution weights for `channels` input channels of another modality.

    The mean over the input channels, repeated without rescaling: every new channel starts with
    the same filter (Wang et al., arXiv 1507.02159, section 3.2). The bias stays as it is.

    Args:
        weight: (O, I, H, W), or (O, I, T, H, W) of a 3D convolution.
        channels: of the new input.

    Returns:
        the same with `channels` in place of I.
    """
    mean = weight.float().mean(1, keepdim=True).to(weight.dtype)
    return mean.repeat_interleave(channels, 1)


def inflate(weight_OIHW: Tensor, *, frames: int) -> Tensor:
    """Return a 2D kernel as a 3D one that answers to a clip of equal images as the 2D one does.

    Repeated over time and divided by its length (Carreira and Zisserman, arXiv 1705.07750,
    section 2.4).

    Returns:
        (O, I, `frames`, H, W).
    """
    return weight_OIHW[:, :, None].repeat(1, 1, frames, 1, 1) / frames
