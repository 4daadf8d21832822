"""What the convolutional 3D networks share: the head, and how their weights start.

Shapes: B clips, C channels, T images, H and W pixels, F features, K classes.
"""

from typing import Any

from torch import Tensor, nn

KINETICS_MEAN, KINETICS_STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # PySlowFast, PyTorchVideo
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ClipNetwork(nn.Module):
    """Mean over time and space, dropout, and the classifier ``fc``; the layers are a subclass's."""

    fc: nn.Linear
    drop: nn.Dropout
    head_hidden_size: int
    pretrained_cfg: dict[str, Any]

    def add_head(self, features: int, *, num_classes: int, dropout: float) -> None:
        """Append the classifier; it comes last, as the order of the layers is that of the pass."""
        self.head_hidden_size = features
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)

    def forward_features(self, x_BCTHW: Tensor) -> Tensor:
        """Return the last feature map, (B, F, T', H', W')."""
        raise NotImplementedError

    def forward_head(self, x_BFTHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or the pooled features (B, F) with `pre_logits`."""
        pooled: Tensor = self.drop(x_BFTHW.mean((2, 3, 4)))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.fc

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.forward_head(self.forward_features(x_BCTHW))


def describe_input(
    *, mean: tuple[float, ...], std: tuple[float, ...], first_conv: str | tuple[str, ...]
) -> dict[str, Any]:
    """Return timm's `pretrained_cfg`: RGB of the published weights and the first convolutions."""
    return {"mean": mean, "std": std, "first_conv": first_conv}


def start_weights(network: nn.Module) -> None:
    """Draw the weights as PySlowFast does.

    Convolutions: normal with variance 2 / fan-out (He et al., arXiv 1502.01852); classifier:
    normal with standard deviation 0.01; biases 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv3d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
