import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from kinema.errors import UsageError
from kinema.models.modality import MODALITIES, get_modality


def random_images(*shape: int) -> torch.Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_rgb_standard_is_torchvisions_normalisation():
    x = random_images(2, 3, 1, 3, 5, 7)
    ours = MODALITIES["rgb"].prepare(x, normalise="standard")
    theirs = tv.normalize(x.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_rgb_caffe_is_bgr_less_the_mean():
    x = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 1, 1, 3, 1, 1)
    out = MODALITIES["rgb"].prepare(x, normalise="caffe").flatten()
    assert out.tolist() == [30 - 104, 20 - 117, 10 - 128]


def test_flow_is_zero_at_128_and_scaled_by_0_226():
    x = torch.tensor([1, 128, 255], dtype=torch.uint8).reshape(1, 1, 3, 1, 1, 1)
    x = x.expand(1, 1, 3, 2, 1, 1)
    standard = MODALITIES["flow"].prepare(x, normalise="standard")[0, 0, :, :, 0, 0]
    wanted = np.array([-127 / 255 / 0.226, 0.0, 127 / 255 / 0.226])
    assert standard[:, 0].numpy() == pytest.approx(wanted, abs=1e-6)
    assert torch.equal(standard[:, 0], standard[:, 1])
    caffe = MODALITIES["flow"].prepare(x, normalise="caffe")[0, 0, :, 0, 0, 0]
    assert caffe.tolist() == [-127.0, 0.0, 127.0]
    unit = MODALITIES["flow"].prepare(x, normalise="unit")[0, 0, :, 0, 0, 0]
    assert unit.numpy() == pytest.approx([1 / 255, 128 / 255, 1.0], abs=1e-7)


@pytest.mark.parametrize(("normalise", "scale"), [("standard", 255 * 0.226), ("unit", 255.0)])
def test_rgbdiff_is_the_difference_of_consecutive_frames(normalise: str, scale: float):
    x = random_images(1, 2, 6, 3, 4, 4)
    out = MODALITIES["rgbdiff"].prepare(x, normalise=normalise)
    assert out.shape == (1, 2, 5, 3, 4, 4)
    wanted = np.diff(x.numpy().astype(np.float64), axis=2) / scale
    assert out.numpy() == pytest.approx(wanted, abs=1e-5)


def test_rgbdiff_caffe_is_the_raw_difference_in_bgr():
    x = random_images(1, 1, 3, 3, 2, 2)
    out = MODALITIES["rgbdiff"].prepare(x, normalise="caffe")
    wanted = np.diff(x.numpy().astype(np.float64), axis=2)[:, :, :, ::-1]
    assert np.array_equal(out.numpy(), wanted)


def test_channel_and_frame_counts():
    assert MODALITIES["flow"].input_channels(10) == 20
    assert MODALITIES["rgbdiff"].input_channels(5) == 15
    assert MODALITIES["rgbdiff"].images_read(5) == 6
    assert MODALITIES["flow"].images_read(10) == 10
    assert MODALITIES["flow"].negated_channels == (0,)
    assert MODALITIES["rgb"].negated_channels == ()


def test_the_input_is_left_alone_even_as_float():
    x = random_images(1, 1, 1, 3, 2, 2).float()
    before = x.clone()
    MODALITIES["rgb"].prepare(x, normalise="standard")
    assert torch.equal(x, before)


def test_unknown_modality():
    with pytest.raises(UsageError, match=r"Unknown modality 'flows'. Did you mean 'flow'"):
        get_modality("flows")
