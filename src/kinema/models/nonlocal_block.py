"""Non-local block: every position of a clip looks at all others (Wang et al., arXiv 1711.07971).

Shapes: B clips, C channels, D inner channels, T images, H and W pixels; P = T * H * W positions
that look, Q those that are looked at.
"""

from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import UsageError, did_you_mean

NonlocalForm = Literal["gaussian", "embedded", "dot", "concat"]


class NonlocalBlock(nn.Module):
    """x + BN(W_z y), with y the mean of g(x) over all positions, weighted by their affinity.

    Affinity of positions i and j, by `form`:

    - ``gaussian``: softmax over j of x_i . x_j;
    - ``embedded``: softmax over j of theta(x_i) . phi(x_j) / sqrt(D), scaled as the authors' code
      does;
    - ``dot``: theta(x_i) . phi(x_j) / Q;
    - ``concat``: relu(w . [theta(x_i), phi(x_j)]) / Q.

    phi and g see x after max pooling (1, 2, 2), which saves three quarters of the work. The last
    BatchNorm starts with scale 0, so a new block changes nothing in a trained network.

    Args:
        channels: C of the input, and of the output.
        form: the affinity.
        inner: D; the published blocks have C / 2.
    """

    def __init__(self, channels: int, *, form: NonlocalForm, inner: int) -> None:
        super().__init__()
        self.form = form
        self.g = nn.Conv3d(channels, inner, 1)
        if form != "gaussian":
            self.theta = nn.Conv3d(channels, inner, 1)
            self.phi = nn.Conv3d(channels, inner, 1)
        if form == "concat":
            self.weight = nn.Parameter(torch.empty(2 * inner).normal_(std=0.01))
        self.out = nn.Conv3d(inner, channels, 1)
        self.bn = nn.BatchNorm3d(channels)
        self.start()

    def start(self) -> None:
        """Draw the weights as the authors do: normal 0.01, biases 0, last scale 0."""
        for module in self.children():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.zeros_(self.bn.weight)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        seen = x_BCTHW if min(x_BCTHW.shape[3:]) < 2 else functional.max_pool3d(x_BCTHW, (1, 2, 2))
        g_BDQ = self.g(seen).flatten(2)
        y_BDP = g_BDQ @ self._affinity(x_BCTHW, seen).transpose(1, 2)
        y_BDTHW = y_BDP.reshape(y_BDP.shape[:2] + x_BCTHW.shape[2:])
        out: Tensor = x_BCTHW + self.bn(self.out(y_BDTHW))
        return out

    def _affinity(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return how much each position gives to each other, (B, P, Q)."""
        if self.form == "gaussian":
            return torch.softmax(x.flatten(2).transpose(1, 2) @ seen.flatten(2), 2)
        theta_BDP: Tensor = self.theta(x).flatten(2)
        phi_BDQ: Tensor = self.phi(seen).flatten(2)
        if self.form == "concat":
            of_theta, of_phi = self.weight.to(theta_BDP.dtype).chunk(2)
            sums = (of_theta @ theta_BDP)[:, :, None] + (of_phi @ phi_BDQ)[:, None]
            return torch.relu(sums) / phi_BDQ.shape[2]
        products = theta_BDP.transpose(1, 2) @ phi_BDQ
        if self.form == "dot":
            return products / phi_BDQ.shape[2]
        return torch.softmax(products * theta_BDP.shape[1] ** -0.5, 2)


def nonlocal_form(name: str) -> NonlocalForm:
    """Return the form of that name.

    Raises:
        UsageError: there is none.
    """
    forms = get_args(NonlocalForm)
    if name not in forms:
        raise UsageError(
            f"model.nonlocal_form={name} is not possible.{did_you_mean(name, forms)} "
            f"Choose {', '.join(forms)}."
        )
    return cast(NonlocalForm, name)


def nonlocal_places(num_blocks: tuple[int, ...], *, total: int) -> tuple[tuple[int, ...], ...]:
    """Return after which blocks of each stage a non-local block comes.

    5 of them: 2 in the second stage and 3 in the third; 10: 4 and 6. They are spread as the authors
    do: after every k-th block, k being the blocks of the stage divided by their number.

    Args:
        num_blocks: blocks of the four stages.
        total: 0, 5 or 10.

    Raises:
        UsageError: another total.
    """
    shares = {0: (0, 0, 0, 0), 5: (0, 2, 3, 0), 10: (0, 4, 6, 0)}
    if total not in shares:
        raise UsageError(f"model.nonlocal_blocks={total} is not possible: choose 0, 5 or 10.")
    return tuple(
        tuple((i + 1) * (blocks // share) - 1 for i in range(share)) if share else ()
        for blocks, share in zip(num_blocks, shares[total], strict=True)
    )
