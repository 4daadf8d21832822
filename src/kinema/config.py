"""A training run as one frozen value: sections of fields, changed by `section.field=value`."""

import dataclasses
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kinema.errors import UsageError, did_you_mean
from kinema.files import read_json, write_json

ModalityName = Literal["rgb", "flow", "rgbdiff"]
Sampling = Literal["tsn", "zhu", "thirds", "any", "slim", "dense"]
Short = Literal["shrink", "clamp", "loop", "wrap"]
Crop = Literal[
    "multiscale", "random-resized", "random-scale", "short-jitter", "random", "centre", "squash"
]
Photometric = Literal["none", "simple", "medium", "heavy"]
TemporalHead = Literal[
    "gru-attention",
    "lstm",
    "ts-lstm",
    "temporal-inception",
    "temporal-conv",
    "transformer",
    "attention",
]
Consensus = Literal[
    "average",
    "sum",
    "max",
    "topk",
    "weighted",
    "trn",
    "trn-multiscale",
    "gru-attention",
    "lstm",
    "ts-lstm",
    "temporal-inception",
    "temporal-conv",
    "transformer",
    "attention",
    "tle",
]
Fusion = Literal["scores", "features", "sum", "max", "concat", "conv", "bilinear"]
TleAggregate = Literal["product", "sum", "max"]
TleEncoding = Literal["sketch", "bilinear", "fc"]
Normalise = Literal["standard", "unit", "caffe"]
Schedule = Literal["constant", "multistep", "plateau", "cosine", "onecycle"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read from the videos."""

    index: str = ""  # folder that holds index.csv and classes.txt
    official_split: int = 1  # which of the data set's official splits, where it has several
    modality: ModalityName = "rgb"
    num_segments: int = 3  # snippets per video in training (the K of TSN)
    stack: int = 1  # images per snippet: flow pairs, frame differences, or 1 for rgb
    interval: int = 1  # from one image of a snippet to the next (the sample rate of 3D networks)
    short: Short = "shrink"  # how a snippet fits into a video that is too short for it
    spread: bool = False  # a snippet's images come from equal parts of the video, one from each
    fps: float = 0.0  # images are taken at this rate, whatever the video's; 0: all of them
    sampling: Sampling = "tsn"  # how training snippets are drawn
    resize: str = "340x256"  # before cropping: "WxH", "short:S" (keeps the aspect) or "none"
    crop: int = 224  # side of the square that the network sees, pixels
    features: str = ""  # folder made by `kinema features`: only the consensus is trained, on them
    frame_store: str = ""  # folder made by `kinema pack`; empty: the videos themselves
    flow_store: str = ""  # folder made by `kinema flow`; empty: flow is computed on the fly
    flow_algorithm: str = "dis"  # of flow on the fly; that of the store where there is one
    flow_size: str = "none"  # images are brought to this for the flow: "WxH", "short:S" or "none"
    flow_weights: str = ""  # of flow_algorithm=motionnet: a file of `kinema train-motion`
    flow_bound: float = 20.0  # pixels per stride that the ends of the uint8 scale stand for
    flow_stride: int = 1  # s: flow from frame t to frame t + s
    flow_gray: Literal["after", "before"] = "after"  # frames become gray after they are resized
    flow_warp: bool = False  # the camera's motion is taken out
    workers: int = 2  # loading processes
    cache_mb: int = 0  # memory in which decoded videos are kept, shared by the loading processes


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    backbone: str = "resnet18"  # a short name of `kinema.models.backbones` or any timm model
    pretrained: bool = False  # ImageNet weights, fetched once
    weights: str = ""  # a checkpoint file to start from instead
    dropout: tuple[float, ...] = (0.5,)  # one value, or one per fully connected layer (VGG)
    consensus: Consensus = "average"
    topk: int = 3  # for consensus=topk
    temporal_width: int = 0  # of a consensus with hidden layers over time; 0: its usual one
    temporal_layers: int = 0  # likewise
    tle_aggregate: TleAggregate = "product"  # consensus=tle: how the snippets' maps become one
    tle_encoding: TleEncoding = "sketch"  # consensus=tle: how that map becomes a descriptor
    tle_dim: int = 8192  # consensus=tle: values of the descriptor (bilinear: channels squared)
    normalise: Normalise = "standard"  # mean and std of the modality, /255 only, or Caffe's BGR
    partial_bn: bool = False  # freeze every BatchNorm but the first
    freeze_bn: bool = False  # freeze every BatchNorm: statistics, scale and shift
    finetune_from: str = ""  # a layer, such as layer4, or consensus: all before it stays frozen
    input_bn: bool = False  # BatchNorm without scale and shift on the input
    drop_path: float = 0.0  # stochastic depth of the last block, where the network has it
    shift: Literal["none", "residual", "inplace"] = "none"  # TSM: channels shifted in time
    shift_div: int = 8  # TSM: one part of this many goes each way
    nonlocal_blocks: Literal[0, 5, 10] = 0  # of the 3D ResNets
    nonlocal_form: Literal["gaussian", "embedded", "dot", "concat"] = "embedded"
    save_memory: bool = False  # activations are computed again in the backward pass
    motion: Literal["", "motionnet-tiny", "motionnet"] = ""  # flow is estimated from RGB inside
    motion_weights: str = ""  # what `kinema train-motion` wrote, to start model.motion from
    motion_loss: float = 0.0  # weight of the loss without labels of the flow that is estimated


@dataclass(frozen=True, kw_only=True)
class SecondConfig:
    """A second stream beside that of `data` and `model`, read from the same places of the videos.

    With `modality`, both networks are trained together; with `teacher`, a network that is finished
    teaches the first one, which is then the result. Neither: there is no second stream.
    """

    modality: Literal["", "rgb", "flow", "rgbdiff"] = ""
    stack: int = 0  # images per snippet; 0: 1 of rgb, 5 differences, 10 flow pairs
    interval: int = 1  # from one image of a snippet to the next
    backbone: str = ""  # empty: that of the first stream
    weights: str = ""  # a checkpoint file to start from
    teacher: str = ""  # a checkpoint whose network teaches; it is left as it is
    flow_store: str = ""  # stored flow of the second stream; empty: data.flow_store
    loss: Literal["each", "sum", "all"] = "all"  # of each stream's scores, of their sum, or of all
    lr: float = 0.0  # learning rate of the second network; 0: optim.lr
    distil: Literal["none", "soft", "features"] = "none"  # what one stream takes over of the other
    distil_weight: float = 1.0  # beside the loss of the labels
    temperature: float = 2.0  # of the soft targets
    fusion: Fusion = "scores"  # where both networks meet
    layer: str = ""  # for a fusion of maps: behind this layer of both; empty: behind the last map
    pool: Literal["2d", "3d"] = "2d"  # of fused maps: each snippet's alone, or over time too
    keep: Literal["one", "both"] = "one"  # the second tower ends where they meet, or goes on


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is drawn once per clip and applied to all its images."""

    crop: Crop = "multiscale"
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    max_distort: int = 1  # how many steps the two sides of a multiscale crop may differ
    legacy_offsets: bool = False  # offsets from the full crop side instead of the drawn one
    mirror: bool = True  # horizontal mirror with probability one half
    mirror_labels: str = ""  # auto, keep, or "left=right,right=left", see `kinema.data.mirrored`
    mirror_flow_sign: bool = True  # mirrored x-flow changes its sign (the old systems forgot it)
    photometric: Photometric = "none"
    short_sides: tuple[int, int] = (256, 320)  # of short-jitter: the crop is cut from such images
    randaugment: str = ""  # "m7-n4": magnitude (0 to 10) and number of operations; empty: none
    erase: float = 0.0  # probability that a rectangle is filled with noise
    mixup: float = 0.0  # alpha of mixup; with cutmix too, one of both is drawn per batch
    cutmix: float = 0.0  # alpha of CutMix
    repeats: int = 1  # clips drawn of a video whenever it is read


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser, schedule and loss."""

    name: Literal["sgd", "adamw", "adam"] = "sgd"
    lr: float = 0.001
    momentum: float = 0.9
    nesterov: bool = False
    dampening: float = 0.0
    weight_decay: float = 5e-4
    groups: Literal["plain", "no-decay", "tsn"] = "plain"  # parameter groups, see engine.optim
    schedule: Schedule = "multistep"
    milestones: tuple[int, ...] = (30, 60)  # epochs at which the rate is multiplied by gamma
    gamma: float = 0.1
    patience: int = 10  # epochs without a better validation loss, for plateau
    min_lr: float = 0.0
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0  # the rate from which the warm-up rises to lr
    clip_norm: float = 0.0  # 0: no clipping
    accumulate: int = 1  # batches per optimiser step
    label_smoothing: float = 0.0
    layer_decay: float = 1.0  # each layer learns at this fraction of the next one's rate
    loss_on: Literal["video", "snippet"] = "video"  # after the consensus, or each snippet alone
    class_weights: Literal["none", "balanced"] = "none"
    ema: float = 0.0  # decay of the averaged weights; 0: none


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop."""

    epochs: int = 80
    batch_size: int = 32  # videos per process and forward pass
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where it is native
    channels_last: bool = True
    compile: bool = False
    validate_every: int = 1  # epochs
    save_every_seconds: float = 60.0  # how often the state is saved inside an epoch
    keep: Literal["best", "last"] = "best"  # which epoch's weights best.safetensors holds
    threads: int = 0  # of the network on the CPU; 0: all cores


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a training run."""

    recipe: str = "custom"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    second: SecondConfig = field(default_factory=SecondConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    protocol: str = "uniform-19"  # how the finished network is tested unless asked otherwise


C = TypeVar("C", bound=Any)


def override(config: C, assignments: Iterable[str]) -> C:
    """Return `config` with every ``section.field=value`` (or ``field=value``) applied.

    Raises:
        UsageError: an unknown name (with the closest one), or a value of the wrong type.
    """
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"'{assignment}' is not an override: write section.field=value.")
        config = _set(config, name.strip().split("."), text.strip(), name.strip())
    return config


def _set(config: C, path: list[str], text: str, whole: str) -> C:
    hints = get_type_hints(type(config))
    if path[0] not in hints:
        section = whole.removesuffix(".".join(path))
        hint = did_you_mean(path[0], hints, prefix=section) or _same_name_elsewhere(
            config, path[-1]
        )
        raise UsageError(f"Unknown setting '{whole}'.{hint} Known here: {', '.join(hints)}.")
    current = getattr(config, path[0])
    if dataclasses.is_dataclass(current):
        if len(path) == 1:
            names = ", ".join(item.name for item in dataclasses.fields(current))
            raise UsageError(f"'{whole}' is a section: set one of its fields ({names}).")
        value: Any = _set(current, path[1:], text, whole)
    elif len(path) > 1:
        raise UsageError(f"'{path[0]}' is a single setting, it has no field '{path[1]}'.")
    else:
        value = _parse(text, hints[path[0]], whole)
    return dataclasses.replace(config, **{path[0]: value})


def _names(config: Any, prefix: str = "") -> Iterable[str]:  # noqa: ANN401
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from _names(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def _same_name_elsewhere(config: Any, name: str) -> str:  # noqa: ANN401
    found = [full for full in _names(config) if full.rpartition(".")[2] == name]
    return f" Did you mean '{found[0]}'?" if found else ""


def _parse(text: str, hint: Any, name: str) -> Any:  # noqa: ANN401
    """Turn the text of an override into the type that the field is annotated with."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin is Literal:
        by_text = {str(choice): choice for choice in choices}
        if text not in by_text:
            allowed = ", ".join(choice or "(nothing)" for choice in by_text)
            raise UsageError(f"{name}={text} is not possible: choose {allowed}.")
        return by_text[text]
    if origin is tuple:
        parts = [part for part in text.strip("()[]").split(",") if part.strip()]
        return tuple(_parse(part.strip(), choices[0], name) for part in parts)
    if origin in (Union, types.UnionType):
        return None if text.lower() == "none" else _parse(text, choices[0], name)
    if hint is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in known:
            raise UsageError(f"{name}={text} is not possible: write true or false.")
        return known[text.lower()]
    try:
        return hint(text)
    except ValueError as error:
        kind = {int: "a whole number", float: "a number"}.get(hint, str(hint))
        raise UsageError(f"{name}={text} is not possible: {kind} is expected.") from error


def to_dict(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a configuration as plain dictionaries, lists and scalars."""
    return dict(dataclasses.asdict(config))


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """Build a configuration from `to_dict`'s result; missing fields take their defaults.

    Raises:
        UsageError: a field that this version does not know.
    """
    hints = get_type_hints(kind)
    known: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise UsageError(f"Unknown setting '{name}'.{did_you_mean(name, hints)}")
        if dataclasses.is_dataclass(hints[name]):
            known[name] = from_dict(hints[name], value)
        else:
            known[name] = tuple(value) if isinstance(value, list) else value
    built: C = kind(**known)
    return built


def save_config(config: Config, path: Path) -> None:
    """Write a configuration as JSON."""
    write_json(path, to_dict(config))


def load_config(path: Path) -> Config:
    """Read a configuration that `save_config` wrote."""
    return from_dict(Config, read_json(path))
