"""Test protocols as named values: which clips, which crops, and how their scores become one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from kinema.config import from_dict
from kinema.data.sampling import TestRule
from kinema.data.transforms import Crops, crop_boxes
from kinema.errors import UsageError, did_you_mean
from kinema.files import read_json
from kinema.video.sizes import parse_size

Average = Literal["logits", "probabilities"]
Aggregate = Literal["mean", "sum"]
CropSet = Literal["centre", "three", "five", "ten", "zhu-ten"]
_NUM_CROPS: dict[CropSet, int] = {"centre": 1, "three": 3, "five": 5, "ten": 10, "zhu-ten": 10}
_BOXES: dict[CropSet, Crops] = {
    "centre": "centre",
    "three": "three",
    "five": "five",
    "ten": "five",
    "zhu-ten": "zhu-five",
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "rule": get_args(TestRule),
    "crops": get_args(CropSet),
    "average": get_args(Average),
    "aggregate": get_args(Aggregate),
}
_REFERENCE_CROP = 224  # the published sizes belong to this crop and are scaled to the network's


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a video is shown to the network; any protocol runs on any model.

    `resize` is "WxH" for a 224 crop (scaled to the network's crop), "squash" (the whole image in
    the crop's square) or "train" (as in training).
    """

    name: str = "custom"
    rule: TestRule = "uniform"
    num_clips: int = 25
    resize: str = "340x256"
    crops: CropSet = "centre"
    average: Average = "logits"
    aggregate: Aggregate = "mean"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(
                    f"The protocol '{self.name}' has {name}={value}: "
                    f"choose one of {', '.join(allowed)}."
                )
        if not isinstance(self.num_clips, int) or self.num_clips < 1:
            raise UsageError(
                f"The protocol '{self.name}' has num_clips={self.num_clips}: "
                "a whole number of at least 1 is needed."
            )
        if self.resize not in ("squash", "train"):
            parse_size(str(self.resize))
        if self.average == "probabilities" and self.aggregate == "sum":
            raise UsageError(
                f"The protocol '{self.name}' sums probabilities: use aggregate=mean, or "
                "average=logits for a sum."
            )

    @property
    def num_views(self) -> int:
        """Forward passes per video."""
        return self.num_clips * _NUM_CROPS[self.crops]


PROTOCOLS = {
    # temporal-segment-networks (Caffe) and tsn-pytorch: scores before the softmax.
    "tsn-25x10": Protocol(name="tsn-25x10", rule="tsn-25", num_clips=25, crops="ten"),
    # two-stream-pytorch (Zhu): its own index rule for each modality, mean of logits.
    "zhu-25x10": Protocol(name="zhu-25x10", rule="zhu", num_clips=25, crops="zhu-ten"),
    # two-stream-action-recognition (Huang): squashed images, sum of logits.
    "uniform-19": Protocol(
        name="uniform-19", rule="huang-19", num_clips=19, resize="squash", aggregate="sum"
    ),
    # two-stream-action-recognition (Elkomy): squashed images, mean of probabilities.
    "elkomy-19": Protocol(
        name="elkomy-19",
        rule="elkomy-19",
        num_clips=19,
        resize="squash",
        average="probabilities",
    ),
    # TF-slim two-stream: five fixed samples, squashed.
    "slim-5": Protocol(name="slim-5", rule="slim-5", num_clips=5, resize="squash"),
    # One clip from the middle, one crop: the quickest look.
    "centre-1": Protocol(name="centre-1", rule="centre", num_clips=1, resize="train"),
    # Ten clips over the whole video, the training's own resize: the default for small networks.
    "uniform-10": Protocol(name="uniform-10", rule="uniform", num_clips=10, resize="train"),
}


def find_protocol(name: str) -> Protocol:
    """Return the protocol of this name, or the one in a JSON file of this path.

    Raises:
        UsageError: neither a known name nor a file, or a file with an unknown field or value.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        values = read_json(path)
        if not isinstance(values, dict):
            raise UsageError(f"{path} is not a protocol: write a JSON object with its fields.")
        return from_dict(Protocol, {"name": path.stem, **values})
    raise UsageError(
        f"Unknown protocol '{name}'.{did_you_mean(name, PROTOCOLS)} "
        f"Known: {', '.join(PROTOCOLS)}, or a JSON file with its fields."
    )


def image_size(protocol: Protocol, *, train_resize: str, crop: int) -> str:
    """Return the size ("WxH", "short:S" or "none") to which images are brought before cropping."""
    if protocol.resize == "train":
        return train_resize
    if protocol.resize == "squash":
        return f"{crop}x{crop}"
    size = parse_size(protocol.resize)
    if not isinstance(size, tuple):
        return protocol.resize
    width, height = (round(side * crop / _REFERENCE_CROP) for side in size)
    return f"{width}x{height}"


def cut_crops(
    x_NTCHW: torch.Tensor, *, crops: CropSet, crop: int, negated_channels: tuple[int, ...]
) -> torch.Tensor:
    """Cut the protocol's crops from whole images.

    Args:
        x_NTCHW: uint8 images at least `crop` high and wide.
        crops: ``centre``, ``three`` along the longer side, ``five`` corners and centre, ``ten``:
            those and their mirrors, x-flow negated (``zhu-ten``: with that system's centre).
        crop: side of the square, pixels.
        negated_channels: channels that change sign in the mirror.

    Returns:
        (V, N, T, C, crop, crop), the V crops in the order of `kinema.data.transforms.crop_boxes`,
        mirrors last.
    """
    height, width = x_NTCHW.shape[-2:]
    boxes = crop_boxes(_BOXES[crops], height=height, width=width, crop=crop)
    views = torch.stack([x_NTCHW[..., b.top : b.top + crop, b.left : b.left + crop] for b in boxes])
    if crops not in ("ten", "zhu-ten"):
        return views
    return torch.cat([views, _mirror(views, negated_channels)])


def _mirror(x: torch.Tensor, negated_channels: tuple[int, ...]) -> torch.Tensor:
    mirrored = x.flip(-1)
    for channel in negated_channels:  # encoded flow: 128 is zero, 1 and 255 are the bounds
        values = mirrored[..., channel, :, :].to(torch.int16)
        mirrored[..., channel, :, :] = (256 - values).clamp_(max=255).to(torch.uint8)
    return mirrored
