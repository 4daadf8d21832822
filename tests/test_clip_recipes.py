"""Recipes of 3D networks: the numbers of their sources."""

import pytest

from kinema.recipes import recipe


def test_r2plus1d_as_in_the_script_of_cao():
    config = recipe("r2plus1d", "rgb")
    data, optim = config.data, config.optim
    assert (data.crop, data.stack, data.interval, data.short) == (112, 16, 4, "wrap")
    assert config.augment.scales == pytest.approx([0.95**k for k in range(5)], abs=5e-4)
    assert (optim.lr, optim.momentum, optim.dampening, optim.weight_decay) == (0.01, 0.9, 0.9, 1e-4)
    assert (optim.schedule, optim.patience, optim.min_lr) == ("plateau", 10, 1e-6)
    assert (config.train.epochs, config.train.batch_size) == (100, 32)
    assert config.protocol == "cao-10x3"


def test_nonlocal_networks_as_in_video_nonlocal_net():
    config = recipe("i3d-nl", "rgb")
    assert (config.data.crop, config.data.stack, config.data.interval) == (224, 8, 8)
    assert (config.model.nonlocal_blocks, config.model.dropout) == (5, (0.5,))
    assert (config.augment.crop, config.augment.short_sides) == ("short-jitter", (256, 320))
    assert config.optim.nesterov and config.optim.lr == 0.01
    steps_per_epoch = 240_000 / config.train.batch_size  # Kinetics-400 has about 240,000 videos
    marks = [mark * steps_per_epoch for mark in config.optim.milestones]
    assert marks == pytest.approx([150_000, 300_000], rel=0.01)
    assert config.train.epochs * steps_per_epoch == pytest.approx(400_000, rel=0.01)


def test_i3d_as_published():
    config = recipe("i3d", "flow")
    assert (config.data.stack, config.data.fps, config.data.crop) == (64, 25.0, 224)
    assert (config.optim.lr, config.optim.weight_decay) == (0.1, 1e-7)
    steps_per_epoch = 240_000 / 384
    marks = [mark * steps_per_epoch for mark in config.optim.milestones]
    assert marks == pytest.approx([97_000, 108_000], rel=0.01)


@pytest.mark.parametrize(
    ("name", "stack", "interval", "batch", "epochs", "warmup", "decay"),
    [("slowfast", 32, 2, 64, 196, 34, 1e-4), ("x3d", 16, 5, 128, 300, 35, 5e-5)],
)
def test_the_family_of_slowfast(name, stack, interval, batch, epochs, warmup, decay):
    config = recipe(name, "rgb")
    optim = config.optim
    assert (config.data.stack, config.data.interval) == (stack, interval)
    assert (config.train.batch_size, config.train.epochs) == (batch, epochs)
    assert (optim.lr, optim.warmup_lr, optim.warmup_epochs) == (0.1, 0.01, warmup)
    assert (optim.schedule, optim.weight_decay, optim.groups) == ("cosine", decay, "no-decay")
    assert config.model.dropout == (0.5,)


def test_tsm_as_published():
    config = recipe("tsm", "rgb")
    assert (config.data.num_segments, config.data.stack) == (8, 1)
    assert (config.model.shift, config.model.shift_div) == ("residual", 8)
    optim = config.optim
    assert (optim.lr, optim.milestones, optim.clip_norm) == (0.02, (20, 40), 20.0)
    assert (config.train.epochs, config.train.batch_size) == (50, 128)
    assert not config.model.partial_bn
    assert recipe("tsm", "flow").data.stack == 5


def test_transformers_as_published():
    mvit, videomae = recipe("mvit", "rgb"), recipe("videomae-finetune", "rgb")
    for config in (mvit, videomae):
        augment = config.augment
        assert (augment.mixup, augment.cutmix, augment.erase) == (0.8, 1.0, 0.25)
        assert (augment.randaugment, config.optim.label_smoothing) == ("m7-n4", 0.1)
        assert (config.data.stack, config.data.interval) == (16, 4)
    assert (mvit.augment.repeats, mvit.model.drop_path, mvit.optim.clip_norm) == (2, 0.2, 1.0)
    assert mvit.train.batch_size * mvit.augment.repeats == 16  # on each GPU
    assert (mvit.optim.lr, mvit.train.epochs, mvit.optim.warmup_epochs) == (1e-4, 200, 30)
    assert videomae.optim.layer_decay == 0.75
    assert videomae.optim.lr == pytest.approx(1e-3 * videomae.train.batch_size / 256)


def test_the_reference_of_torchvision_counts_five_clips_as_five_epochs():
    config = recipe("torchvision-video-reference", "rgb")
    assert (config.data.fps, config.data.stack, config.data.resize) == (15.0, 16, "171x128")
    assert [mark / 5 for mark in config.optim.milestones] == [20, 30, 40]
    assert (config.train.epochs / 5, config.optim.warmup_epochs / 5) == (45, 10)
