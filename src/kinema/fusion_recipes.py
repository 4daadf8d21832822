"""Named training runs of networks that fuse the snippets of a video over time.

Published numbers are on UCF101 with both streams. Batches are per process.
"""

from kinema.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModalityName,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)


def gru_attention(modality: ModalityName) -> Config:
    """two-stream-action-recognition (Elkomy), its recurrent fusion, here for one stream.

    A GRU with attention over 19 images (or stacks) drawn at random, in their order, on the frozen
    network of recipe ``xception``: give that one's checkpoint as ``model.weights``. The published
    network takes the features of both streams side by side, stored beforehand. Expected: 91.7
    with both streams, where the mean of their scores has 91.25; no number for one stream.
    """
    return Config(
        recipe="gru-attention",
        data=DataConfig(
            modality=modality,
            num_segments=19,
            stack=1 if modality == "rgb" else 10,
            sampling="any",
            resize="299x299",
            crop=299,
            workers=4,
        ),
        model=ModelConfig(
            backbone="xception",
            pretrained=True,
            dropout=(0.5,),
            consensus="gru-attention",
            normalise="unit",
            input_bn=True,
            finetune_from="consensus",
        ),
        augment=AugmentConfig(crop="squash", photometric="heavy"),
        optim=OptimConfig(
            name="adam", lr=1e-6, weight_decay=0.0, schedule="plateau", patience=50, min_lr=1e-7
        ),
        train=TrainConfig(epochs=1200, batch_size=64),
        protocol="centre-1",
    )


def tle(modality: ModalityName) -> Config:
    """Temporal Linear Encoding with BN-Inception: product of three maps, Tensor Sketch of 8192.

    The paper trains the new layers first and then all: see docs/temporal-fusion.md. Images and
    optimiser are those of recipe ``tsn``, whose networks it starts from. Expected (two streams,
    mean of three splits): 95.1; with ``model.tle_encoding=bilinear`` 95.6, with fc 92.2.
    """
    rgb = modality == "rgb"
    epochs, milestones = (80, (30, 60)) if rgb else (340, (190, 300))
    return Config(
        recipe="tle",
        data=DataConfig(modality=modality, num_segments=3, stack=1 if rgb else 5, workers=8),
        model=ModelConfig(
            backbone="bn_inception",
            pretrained=True,
            dropout=(0.8 if rgb else 0.7,),
            consensus="tle",
            normalise="caffe",
            partial_bn=True,
        ),
        augment=AugmentConfig(
            scales=(1.0, 0.875, 0.75, 0.66) if rgb else (1.0, 0.875, 0.75),
        ),
        optim=OptimConfig(lr=0.001, groups="tsn", milestones=milestones, clip_norm=20.0),
        train=TrainConfig(epochs=epochs, batch_size=128, validate_every=5),
        protocol="tsn-25x10",
    )
