"""Test protocols as named values: which clips, which crops, and how their scores become one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from kinema.config import Short, from_dict
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
    "short": ("", *get_args(Short)),
    "aggregate": get_args(Aggregate),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a video is shown to the network; any protocol runs on any model.

    `resize` is "WxH" or "short:S", "squash" (the whole image in the crop's square) or "train" (as
    in training). `resize` and `crop` belong to networks trained on crops of `trained_crop` pixels
    and are scaled for others. A 0 (or an empty `short`) stands for the network's own.
    """

    name: str = "custom"
    rule: TestRule = "uniform"
    num_clips: int = 25  # 0: as many as cover the video (rule "sliding")
    resize: str = "340x256"
    crops: CropSet = "centre"
    crop: int = 0  # side of the square, pixels
    trained_crop: int = 224
    stack: int = 0  # images per clip
    interval: int = 0
    fps: float = 0.0
    short: Short | Literal[""] = ""
    average: Average = "logits"
    aggregate: Aggregate = "mean"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(
                    f"The protocol '{self.name}' has {name}={value}: "
                    f"choose one of {', '.join(choice or '(nothing)' for choice in allowed)}."
                )
        least = 0 if self.rule == "sliding" and self.aggregate == "mean" else 1
        if not isinstance(self.num_clips, int) or self.num_clips < least:
            raise UsageError(
                f"The protocol '{self.name}' has num_clips={self.num_clips}: "
                "a whole number of at least 1 is needed (0 with rule=sliding and aggregate=mean)."
            )
        self._check_numbers()
        if self.resize not in ("squash", "train"):
            parse_size(str(self.resize))
        if self.average == "probabilities" and self.aggregate == "sum":
            raise UsageError(
                f"The protocol '{self.name}' sums probabilities: use aggregate=mean, or "
                "average=logits for a sum."
            )

    def _check_numbers(self) -> None:
        for name in ("crop", "trained_crop", "stack", "interval", "fps"):
            value, what = getattr(self, name), f"The protocol '{self.name}' has {name}="
            if not isinstance(value, int | float):
                raise UsageError(f"{what}{value}: a number is needed.")
            if value < 0:
                raise UsageError(
                    f"{what}{value}: it cannot be below 0, which stands for the network's own."
                )
        if self.trained_crop < 1:
            raise UsageError(
                f"The protocol '{self.name}' has trained_crop={self.trained_crop}: "
                "at least 1 pixel is needed."
            )

    @property
    def num_crops(self) -> int:
        """Crops of every clip, mirrors included."""
        return _NUM_CROPS[self.crops]

    @property
    def num_views(self) -> int:
        """Forward passes per video; 0 where it depends on the video's length."""
        return self.num_clips * self.num_crops

    def side(self, crop: int) -> int:
        """Return the side of the square that a network trained on crops of `crop` pixels sees."""
        return round(self.crop * crop / self.trained_crop) if self.crop else crop


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
    # video-action-recognition-models (Cao): clips from int(i n / 10), short videos wrapped.
    # (It sums the probabilities of the 30 views; their mean ranks the same.)
    "cao-10x3": Protocol(
        name="cao-10x3",
        rule="cao",
        num_clips=10,
        resize="short:112",
        crops="three",
        trained_crop=112,
        short="wrap",
        average="probabilities",
    ),
    # 3D-ResNets-PyTorch (Hara): windows side by side over the whole video, the last one looped.
    "hara-sliding": Protocol(
        name="hara-sliding",
        rule="sliding",
        num_clips=0,
        resize="short:112",
        trained_crop=112,
        short="loop",
        average="probabilities",
    ),
    # kinetics-i3d: ten seconds at 25 frames per second in one pass, short videos looped.
    "i3d-250": Protocol(
        name="i3d-250",
        num_clips=1,
        resize="short:256",
        stack=250,
        interval=1,
        fps=25.0,
        short="loop",
    ),
    # Non-local networks, SlowFast, X3D: crops of 256 from networks trained at 224.
    "10x3-256": Protocol(
        name="10x3-256",
        num_clips=10,
        resize="short:256",
        crops="three",
        crop=256,
        average="probabilities",
    ),
    # R(2+1)D / VMZ.
    "r2plus1d-10x1": Protocol(
        name="r2plus1d-10x1",
        num_clips=10,
        resize="171x128",
        trained_crop=112,
        average="probabilities",
    ),
    # torchvision's video references: 15 frames per second.
    "torchvision-5": Protocol(
        name="torchvision-5",
        rule="uniform-floor",
        num_clips=5,
        resize="171x128",
        trained_crop=112,
        fps=15.0,
        average="probabilities",
    ),
    # TSM: one clip of the segments' middles; its ten crops; ten dense clips at full resolution.
    "tsm-8x1": Protocol(name="tsm-8x1", rule="tsn-val", num_clips=1, resize="short:256"),
    "tsm-8x10": Protocol(
        name="tsm-8x10", rule="tsn-val", num_clips=1, resize="short:256", crops="ten"
    ),
    "tsm-dense-10x3": Protocol(
        name="tsm-dense-10x3",
        rule="dense",
        num_clips=10,
        resize="short:256",
        crops="three",
        crop=256,
    ),
    # TSM on Something-Something: two clips, half a segment apart.
    "tsm-2x3": Protocol(
        name="tsm-2x3", rule="phases", num_clips=2, resize="short:256", crops="three", crop=256
    ),
    # MViT (PySlowFast) on Kinetics; VideoMAE on Kinetics and on Something-Something.
    "5x1": Protocol(name="5x1", num_clips=5, resize="short:256", average="probabilities"),
    "5x3": Protocol(
        name="5x3", num_clips=5, resize="short:224", crops="three", average="probabilities"
    ),
    "2x3": Protocol(
        name="2x3",
        rule="phases",
        num_clips=2,
        resize="short:224",
        crops="three",
        average="probabilities",
    ),
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
        side = protocol.side(crop)
        return f"{side}x{side}"
    size, scale = parse_size(protocol.resize), crop / protocol.trained_crop
    if isinstance(size, tuple):
        width, height = (round(side * scale) for side in size)
        return f"{width}x{height}"
    return f"short:{round(size * scale)}" if size else protocol.resize


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
