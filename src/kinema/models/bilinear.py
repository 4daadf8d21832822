"""Second-order statistics of a feature map: bilinear pooling, whole or as a Tensor Sketch.

Shapes: B videos, P positions of the map, C channels, D values of the descriptor.
"""

import torch
from torch import Tensor, nn

from kinema.errors import KinemaError
from kinema.models.precision import at_least_float32, full_precision

SKETCH_DIM = 8192  # of Gao et al. 2016 and of Temporal Linear Encoding
_NEAR_ZERO = 1e-6


class BilinearPooling(nn.Module):
    """Mean over the positions of the outer product of the channels (Lin et al. 2015), (B, C * C).

    Computed in float32, also under autocast.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_features = channels * channels

    def forward(self, x_BPC: Tensor, y_BPC: Tensor | None = None) -> Tensor:
        """Return the descriptors of a map with itself, or with another of its size, (B, C * C)."""
        with full_precision(x_BPC.device):
            x = at_least_float32(x_BPC)
            y = x if y_BPC is None else at_least_float32(y_BPC)
            return (x.transpose(1, 2) @ y / x.shape[1]).flatten(1)


class TensorSketch(nn.Module):
    """Compact bilinear pooling (Gao et al., arXiv 1511.06062; Pham and Pagh 2013), (B, `dim`).

    The outer product of the channels is projected to `dim` values without being made: the
    convolution of two count sketches, by FFT. Inner products of the results are those of
    `BilinearPooling` on average over the seeds, with an error that falls as 1 / sqrt(dim). The
    random places and signs are drawn once from the seed and travel with the weights as buffers.
    Computed in float32, also under autocast.

    Args:
        channels: C.
        dim: length of the result.
        seed: of the places and signs.
    """

    def __init__(self, channels: int, *, dim: int = SKETCH_DIM, seed: int = 0) -> None:
        super().__init__()
        if dim < 1:
            raise KinemaError(f"model.tle_dim={dim} is not possible: it must be at least 1.")
        self.out_features = dim
        here = torch.empty(0).device  # buffers follow `with torch.device(...)`, the draw does not
        generator = torch.Generator("cpu").manual_seed(seed)
        shape = (2, channels)
        places = torch.randint(dim, shape, generator=generator, device="cpu")
        signs = torch.randint(2, shape, generator=generator, device="cpu") * 2.0 - 1.0
        self.places: Tensor
        self.signs: Tensor
        self.register_buffer("places", places.to(here))
        self.register_buffer("signs", signs.to(here))

    def forward(self, x_BPC: Tensor, y_BPC: Tensor | None = None) -> Tensor:
        """Return the mean sketch of a map with itself, or with another of its size, (B, D)."""
        with full_precision(x_BPC.device):
            x = at_least_float32(x_BPC)
            y = x if y_BPC is None else at_least_float32(y_BPC)
            first = torch.fft.rfft(self._count_sketch(x, 0))
            second = torch.fft.rfft(self._count_sketch(y, 1))
            spectrum_BF = (first * second).mean(1)
            sketch_BD: Tensor = torch.fft.irfft(spectrum_BF, n=self.out_features)
            return sketch_BD

    def _count_sketch(self, x_BPC: Tensor, which: int) -> Tensor:
        signed = (x_BPC * self.signs[which].to(x_BPC.dtype)).flatten(0, 1)
        sketch = signed.new_zeros(signed.shape[0], self.out_features)
        sketch = sketch.index_add(1, self.places[which], signed)
        return sketch.reshape(*x_BPC.shape[:2], self.out_features)


def signed_sqrt(x: Tensor) -> Tensor:
    """Return sign(x) * sqrt(|x|), smoothed below 1e-6 so that the gradient at 0 is 1000."""
    return x * (x.abs() + _NEAR_ZERO).rsqrt()


def unit_length(x_BD: Tensor) -> Tensor:
    """Return rows of length 1 (L2); rows shorter than about 0.001 stay short."""
    return x_BD * (x_BD.square().sum(-1, keepdim=True) + _NEAR_ZERO).rsqrt()
