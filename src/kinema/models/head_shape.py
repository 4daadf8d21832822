"""What a head of fusion over time is built for: the one argument of all of them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """What a head (B, N, D) -> (B, K) is built for."""

    features: int  # D
    num_classes: int  # K
    num_segments: int  # snippets per video in training
    width: int  # of its hidden layers, U
    layers: int  # recurrent, convolutional or encoder ones; 0 where their number is fixed
    dropout: float
