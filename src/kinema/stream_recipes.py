"""Named training runs of two streams that learn together, or one from the other.

Published numbers are on UCF101. Batches are per process. The first stream is that of the modality
asked for, the second the other one of rgb and flow; both see the same places of a video, with one
crop and one mirror.
"""

from typing import Literal

from kinema.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModalityName,
    ModelConfig,
    OptimConfig,
    SecondConfig,
    TrainConfig,
)


def _stack(modality: str) -> int:
    """Return the images of a snippet: one of RGB, ten flow pairs."""
    return 1 if modality == "rgb" else 10


def _other(modality: ModalityName) -> Literal["rgb", "flow"]:
    return "flow" if modality == "rgb" else "rgb"


def conv_fusion(modality: ModalityName) -> Config:
    """Convolutional fusion (Feichtenhofer 2016): VGG-16, 3D convolution and pooling behind ReLU5.

    Settings of the published code; its ten passes per epoch are epochs here. It starts from both
    streams, trained alone, and trains what is behind the fusion: ``model.weights=RGB
    second.weights=FLOW model.finetune_from=features.30``. Without them, as here, all is trained
    from ImageNet. Differences: five snippets from equal parts of the video (published: 5 to 15
    images apart); the convolution begins as the sum of both maps (published: a Gaussian, 1 to 3);
    maps are pooled over 3x3x3 and snippets averaged at the end (published: pooled over all five).
    Expected (mean of three splits): 92.5.
    """
    return Config(
        recipe="conv-fusion",
        data=DataConfig(modality=modality, num_segments=5, stack=_stack(modality), workers=8),
        model=ModelConfig(backbone="vgg16", pretrained=True, dropout=(0.85, 0.85)),
        second=SecondConfig(
            modality=_other(modality),
            stack=_stack(_other(modality)),
            fusion="conv",
            layer="features.29",  # ReLU5_3
            pool="3d",
            keep="both",
            loss="each",
        ),
        optim=OptimConfig(lr=1e-3, weight_decay=5e-4, milestones=(20, 30, 40), accumulate=24),
        train=TrainConfig(epochs=50, batch_size=4, validate_every=5),
        protocol="uniform-10",
    )


def joint_adam(modality: ModalityName) -> Config:
    """TF-slim two-stream, its joint training: ResNet-50 v1, both losses added under one Adam.

    What counts is the sum of both logits. Every sample is a video of its own in the loss; the
    published test counts samples too, here it is of the mean of the five. Expected, of samples:
    rgb 71.0, flow 54.1, both 78.0 (validation: 74.3, 64.6, 81.3).
    """
    return Config(
        recipe="joint-adam",
        data=DataConfig(
            modality=modality,
            num_segments=5,
            stack=_stack(modality),
            sampling="slim",
            resize="none",
            workers=4,
        ),
        model=ModelConfig(backbone="resnet50", pretrained=True, dropout=()),
        second=SecondConfig(modality=_other(modality), stack=_stack(_other(modality)), loss="each"),
        augment=AugmentConfig(crop="squash", mirror=False),
        optim=OptimConfig(
            name="adam", lr=1e-4, weight_decay=0.0, schedule="constant", loss_on="snippet"
        ),
        train=TrainConfig(epochs=500, batch_size=5),
        protocol="slim-5",
    )


def joint_sgd(modality: ModalityName) -> Config:
    """two-stream-action-recognition (Huang), its early joint trainer: ResNet-101, two SGDs.

    Each stream's own loss and rate (an early revision has 5e-6 for rgb and 5e-3 for flow:
    ``optim.lr`` and ``second.lr``). One frame and ten flow pairs; the published frame is the first
    of the pairs, here it is in their middle. In the published code crops differ within a stack,
    mirrored x-flow keeps its sign and the best epoch is that of the test split: done right here.
    Expected: no number was published; streams trained alone (``segments-resnet101``) have 82.1 and
    79.4, their sum 88.5.
    """
    return Config(
        recipe="joint-sgd",
        data=DataConfig(
            modality=modality,
            num_segments=1,
            stack=_stack(modality),
            sampling="any",
            resize="short:256",
            workers=8,
        ),
        model=ModelConfig(backbone="resnet101", pretrained=True, dropout=()),
        second=SecondConfig(
            modality=_other(modality), stack=_stack(_other(modality)), loss="each", lr=1e-4
        ),
        augment=AugmentConfig(crop="random"),
        optim=OptimConfig(lr=1e-4, weight_decay=0.0, schedule="constant"),
        train=TrainConfig(epochs=50, batch_size=32),
        protocol="uniform-19",
    )


def mars(modality: ModalityName) -> Config:
    """MARS (Crasto 2019): a 3D network of RGB takes over the features of one of flow.

    With rgb the student, which needs ``second.teacher``; with flow that teacher. Settings of the
    published code, weight 50; 16 frames, also published with ``data.stack=64``. A 3D ResNet-101
    stands for its ResNeXt-101. On a network of Kinetics (``model.weights``): ``optim.lr=0.001
    optim.weight_decay=1e-5``. Expected (64 frames, after Kinetics): 97.4, with rgb and flow 98.1.
    """
    taught = SecondConfig(distil="features", distil_weight=50.0)
    return Config(
        recipe="mars",
        data=DataConfig(
            modality=modality,
            num_segments=1,
            stack=16,
            short="loop",
            sampling="any",
            resize="short:240",
            crop=112,
            workers=4,
        ),
        model=ModelConfig(backbone="resnet3d101", dropout=()),
        second=taught if modality == "rgb" else SecondConfig(),
        augment=AugmentConfig(scales=(1.0, 0.841, 0.707, 0.595, 0.5), max_distort=0),
        optim=OptimConfig(lr=0.1, dampening=0.9, weight_decay=1e-3, schedule="plateau"),
        train=TrainConfig(epochs=400, batch_size=20),
        protocol="hara-sliding",
    )


def emv(modality: ModalityName) -> Config:
    """Enhanced motion vectors (Zhang 2016): the file's motion vectors, taught by a flow network.

    With flow the student, with rgb its partner. Supervision transfer needs ``second.teacher`` (and
    ``second.flow_store``, where its flow is stored); teacher initialisation is ``model.weights``
    with the same file. Labels and soft targets (times the squared temperature) count alike;
    temperature 2, weight 1, network and schedule are ours. Expected (with rgb): 86.4.
    """
    is_student = modality == "flow"
    taught = SecondConfig(distil="soft", distil_weight=1.0, temperature=2.0)
    return Config(
        recipe="emv",
        data=DataConfig(
            modality=modality,
            num_segments=1,
            stack=_stack(modality),
            sampling="any",
            flow_algorithm="motion-vectors" if is_student else "dis",
            workers=4,
        ),
        model=ModelConfig(backbone="resnet18", pretrained=True, dropout=(0.7,)),
        second=taught if is_student else SecondConfig(),
        augment=AugmentConfig(scales=(1.0, 0.875, 0.75)),
        optim=OptimConfig(lr=0.001, milestones=(60, 90), clip_norm=20.0),
        train=TrainConfig(epochs=120, batch_size=64, validate_every=5),
        protocol="tsn-25x10",
    )
