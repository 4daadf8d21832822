"""What a training minimises: labels, for one stream or two, and what one stream takes of another.

Shapes: B clips, S scores (one per stream, or one of both), D features, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, mse_loss

from kinema.config import Config, SecondConfig
from kinema.models.snippet_network import MotionOutputs
from kinema.models.two_streams import StreamOutputs

Output = Tensor | StreamOutputs | MotionOutputs
Loss = Callable[[Output, Tensor], tuple[Tensor, Tensor]]


def training_loss(config: Config, *, class_weights: Tensor | None) -> Loss:
    """Return the function of (output, targets) -> (sum over the clips, logits of the result).

    Cross-entropy with `optim.label_smoothing`; with two streams see `two_stream_loss`. The loss
    of flow that is estimated inside counts `model.motion_loss` beside it.
    """

    def labels_loss(logits_BK: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(
            logits_BK.float(),
            targets,
            weight=class_weights,
            label_smoothing=config.optim.label_smoothing,
            reduction="sum",
        )

    def loss(output: Output, targets: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(output, StreamOutputs):
            return two_stream_loss(output, targets, config.second, labels_loss=labels_loss)
        if isinstance(output, MotionOutputs):
            of_flow = config.model.motion_loss * output.flow_loss.sum()
            return labels_loss(output.logits, targets) + of_flow, output.logits
        return labels_loss(output, targets), output

    return loss


def two_stream_loss(
    output: StreamOutputs,
    targets: Tensor,
    settings: SecondConfig,
    *,
    labels_loss: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Return the loss of two streams, summed over the clips, and the logits of their result.

    - With a teacher: the labels' loss of the first stream, and what it takes of the second.
    - Together: the labels' loss of ``each`` score, of their ``sum``, or of ``all`` these; with
      ``distil=soft`` each takes of the other (deep mutual learning, Zhang et al. 2018), with
      ``features`` the first of the second (MARS, Crasto et al. 2019).

    Args:
        output: of the network in training.
        targets: classes (B,), or probabilities (B, K).
        settings: section `second`.
        labels_loss: of (logits, targets), summed over the clips.
    """
    logits_SBK = output.logits
    if settings.teacher:
        taken = settings.distil_weight * taken_over(output, settings, of=1, to=0)
        return labels_loss(logits_SBK[0], targets) + taken, logits_SBK[0]
    together = logits_SBK.sum(0)
    parts = []
    if settings.loss in ("each", "all"):
        parts += [labels_loss(logits_BK, targets) for logits_BK in logits_SBK]
    if settings.loss == "sum" or (settings.loss == "all" and len(logits_SBK) > 1):
        parts.append(labels_loss(together, targets))
    if settings.distil != "none":
        parts.append(settings.distil_weight * taken_over(output, settings, of=1, to=0))
    if settings.distil == "soft":
        parts.append(settings.distil_weight * taken_over(output, settings, of=0, to=1))
    return torch.stack(parts).sum(), together


def taken_over(output: StreamOutputs, settings: SecondConfig, *, of: int, to: int) -> Tensor:
    """Return how far one stream is from another, whose side is given: summed over the clips.

    ``soft``: T^2 times the Kullback-Leibler divergence of the probabilities at temperature T
    (Hinton et al. 2015; Zhang et al., Real-time Action Recognition with Enhanced Motion Vector
    CNNs, 2016). ``features``: the mean squared difference before the classifiers (MARS).
    """
    if settings.distil == "features":
        assert output.features is not None  # the network was built for it
        far = mse_loss(
            output.features[to].float(), output.features[of].float().detach(), reduction="none"
        )
        return far.mean(1).sum()
    temperature = settings.temperature
    logits = output.logits.float() / temperature
    target = logits[of].detach().log_softmax(1)
    far = kl_div(logits[to].log_softmax(1), target, reduction="sum", log_target=True)
    return temperature**2 * far
