"""The training of a MotionNet as one frozen value; names as in `kinema.config`."""

from dataclasses import dataclass, field
from typing import Literal

from kinema.config import OptimConfig, Schedule
from kinema.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class MotionData:
    """What is read from the videos."""

    index: str = ""  # folder that holds index.csv and classes.txt
    official_split: int = 1  # which of the data set's official splits, where it has several
    frame_store: str = ""  # folder made by `kinema pack`; empty: the videos themselves
    frames: int = 2  # of a clip; the paper's network takes 11
    clips: int = 1  # of a video, whenever it is read
    intervals: tuple[int, ...] = (1, 1, 1, 2, 3)  # from frame to frame; one is drawn per batch
    made: int = 2  # pairs with made motion beside those of a batch, see `kinema.flow.made_pairs`
    resize: str = "320x240"  # before cropping: "WxH", "short:S" (keeps the aspect) or "none"
    crop: int = 128  # side of the square that the network sees, pixels, a multiple of 32
    mirror: bool = True  # horizontal mirror with probability one half
    workers: int = 2  # loading processes
    cache_mb: int = 0  # memory in which decoded videos are kept, shared by the loading processes


@dataclass(frozen=True, kw_only=True)
class MotionModel:
    """The network."""

    network: str = "motionnet-tiny"  # a name of `kinema.flow.motion_network`
    weights: str = ""  # a file of such a network to start from


@dataclass(frozen=True, kw_only=True)
class MotionOptim:
    """Adam and its learning rate."""

    lr: float = 0.002
    weight_decay: float = 0.0
    schedule: Literal["constant", "multistep", "cosine"] = "cosine"
    milestones: tuple[int, ...] = ()  # epochs at which the rate is multiplied by gamma
    gamma: float = 0.5
    min_lr: float = 0.0
    warmup_epochs: float = 0.5
    clip_norm: float = 1.0  # 0: no clipping
    ema: float = 0.995  # decay of the averaged weights, which are what is kept; 0: none


@dataclass(frozen=True, kw_only=True)
class MotionTraining:
    """The loop."""

    epochs: int = 40
    batch_size: int = 4  # videos per process and step; each gives data.clips clips
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where it is native
    save_every_seconds: float = 60.0  # how often the state is saved inside an epoch
    threads: int = 0  # of the network on the CPU; 0: all cores


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Everything that decides the training of a MotionNet."""

    data: MotionData = field(default_factory=MotionData)
    model: MotionModel = field(default_factory=MotionModel)
    optim: MotionOptim = field(default_factory=MotionOptim)
    train: MotionTraining = field(default_factory=MotionTraining)


def motion_config(network: str = "motionnet-tiny") -> MotionConfig:
    """Return the settings that a network is usually trained with.

    ``motionnet`` has those of the paper's published solver (Adam at 3.2e-5, weight decay 4e-4,
    batches of 16, the rate halved five times), with epochs of UCF101 split 1 in place of its
    400,000 steps.
    """
    if network != "motionnet":
        return MotionConfig(model=MotionModel(network=network))
    return MotionConfig(
        data=MotionData(frames=11, clips=1, intervals=(1,), made=0, resize="340x256", crop=224),
        model=MotionModel(network=network),
        optim=MotionOptim(
            lr=3.2e-5,
            weight_decay=4e-4,
            schedule="multistep",
            milestones=(168, 335, 420, 503, 587),
            clip_norm=0.0,
            ema=0.0,
            warmup_epochs=0.0,
        ),
        train=MotionTraining(epochs=671, batch_size=16),
    )


def rate_settings(optim: MotionOptim) -> OptimConfig:
    """Return what `kinema.engine.optim.learning_rate` goes by."""
    schedule: Schedule = optim.schedule
    return OptimConfig(
        name="adam",
        lr=optim.lr,
        schedule=schedule,
        milestones=optim.milestones,
        gamma=optim.gamma,
        min_lr=optim.min_lr,
        warmup_epochs=optim.warmup_epochs,
        weight_decay=optim.weight_decay,
        clip_norm=optim.clip_norm,
        ema=optim.ema,
    )


def check_motion(config: MotionConfig) -> None:
    """Refuse values that cannot be.

    Raises:
        UsageError: says which value, and what is allowed.
    """
    data, train = config.data, config.train
    if data.crop < 64 or data.crop % 32:
        raise UsageError(
            f"data.crop={data.crop} is not possible: flow has five scales, so the crop is a "
            "multiple of 32, and at least 64."
        )
    needed = 11 if config.model.network == "motionnet" else 2
    if data.frames < needed or (needed > 2 and data.frames != needed):
        raise UsageError(
            f"data.frames={data.frames} is not possible: {config.model.network} takes {needed} "
            f"frames{' at least' if needed == 2 else ''}."
        )
    for name, value in (
        ("data.clips", data.clips),
        ("data.intervals", min(data.intervals, default=0)),
        ("train.batch_size", train.batch_size),
        ("train.epochs", train.epochs),
    ):
        if value < 1:
            raise UsageError(f"{name}={value} is not possible: it is 1 at least.")
    if data.made < 0 or (data.made and data.frames != 2):
        raise UsageError(
            f"data.made={data.made} is not possible with data.frames={data.frames}: motion is made "
            "for pairs of frames; 0 makes none."
        )
    if not 0 <= config.optim.ema < 1:
        raise UsageError(f"optim.ema={config.optim.ema} is not possible: from 0 to below 1.")
    if config.optim.lr <= 0:
        raise UsageError(f"optim.lr={config.optim.lr} is not possible: it is above 0.")
