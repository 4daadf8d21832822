"""A network of four convolutions for tests and demonstrations: seconds on a CPU."""

from torch import Tensor, nn


class TinyNet(nn.Module):
    """Four 3x3 convolutions of stride 2 with BatchNorm, global average pooling, one classifier.

    Any image of at least 2x2 pixels; 32x32 becomes a 2x2 feature map.
    """

    def __init__(self, *, in_channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        widths = (16, 32, 48, 64)
        self.features = nn.Sequential(
            *(
                _conv_bn(before, after)
                for before, after in zip((in_channels, *widths[:-1]), widths, strict=True)
            )
        )
        self.num_features = self.head_hidden_size = widths[-1]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Return the last feature map, (B, 64, H/16, W/16)."""
        out: Tensor = self.features(x_BCHW)
        return out

    def forward_head(self, x_BFHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the pooled features (B, F) with `pre_logits`."""
        pooled: Tensor = self.drop(self.pool(x_BFHW))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.fc

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.forward_head(self.forward_features(x_BCHW))


def _conv_bn(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
