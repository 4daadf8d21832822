"""Putting weights into a new network: published or a file's, with a report of what went where."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kinema.config import ModelConfig
from kinema.errors import KinemaError
from kinema.fetch import is_url
from kinema.models.first_conv import cross_modality, first_conv_names, inflate
from kinema.models.hidden_flow import load_hidden
from kinema.models.snippet_network import SnippetNetwork
from kinema.weights.download import download
from kinema.weights.files import WeightsFile, read_weights
from kinema.weights.kinetics import published_weights
from kinema.weights.positions import resized_positions

_NEW_HEAD_STD = 0.001  # of a classifier on pretrained features (TSN)
_MAY_BE_ABSENT = ("num_batches_tracked",)
_NEW_LAYERS = ".nonlocal_block."  # of a network that is published without them
_OWN_PARTS = ("input_bn.", "consensus.", "hidden.")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of every tensor of the network and of the file, by name.

    `adapted` are first convolutions that took the mean over the file's input channels, `inflated`
    2D kernels that were repeated in time, `resized` position embeddings of another size;
    `head_replaced` says that the classifier is new: normal with standard deviation 0.001, bias 0.
    `missing` are those of the network that keep their start values, `unexpected` those of the
    file that found no place. `notes` are for the user to read.
    """

    source: str
    matched: tuple[str, ...]
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    head_replaced: bool
    has_classifier: bool = True  # not so where a consensus reads features instead
    inflated: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the report in one line."""
        parts = [f"{len(self.matched)} tensors from {self.source}"]
        if self.adapted:
            parts.append(f"{', '.join(self.adapted)} averaged over its input channels")
        if self.inflated:
            parts.append(f"{len(self.inflated)} kernels repeated in time")
        if self.resized:
            parts.append(f"{len(self.resized)} position embeddings resized")
        if self.has_classifier:
            parts.append("new classifier" if self.head_replaced else "classifier kept")
        if self.missing:
            parts.append(f"{len(self.missing)} not in it")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} of it not used")
        return "; ".join([*parts, *self.notes]) + "."


def initialise(network: SnippetNetwork, model: ModelConfig) -> LoadReport | None:
    """Give a new network the weights that the configuration asks for.

    `model.weights` (a file, or an http(s) address) goes before `model.pretrained`; with neither,
    the network stays as it is. `model.motion_weights` is for its hidden stream, where the file of
    `model.weights` has none.

    Returns:
        the report, or None where there was nothing to load.

    Raises:
        KinemaError: the weights are out of reach, unreadable, or of another network.
    """
    source = network.flow_source
    if source and model.motion_weights:
        load_hidden(source, Path(model.motion_weights))
    if model.weights:
        path = download(model.weights) if is_url(model.weights) else Path(model.weights)
        return load_weights(network, read_weights(path), backbone=model.backbone)
    if model.pretrained:
        return load_weights(network, published_weights(model.backbone), backbone=model.backbone)
    return None


def load_weights(network: SnippetNetwork, file: WeightsFile, *, backbone: str) -> LoadReport:
    """Copy the tensors of `file` into `network`.

    Names and shapes must fit, with these exceptions: a first convolution of another modality or
    channel count is adapted and 2D kernels of a 3D network are repeated in time
    (`kinema.models.first_conv`), position embeddings for another size are resized, a classifier
    of another class count is made anew, and input BatchNorm, consensus and non-local blocks may
    be absent.

    Args:
        network: changed in place.
        file: what was read.
        backbone: the network's name, for messages.

    Raises:
        KinemaError: the file belongs to another network.
    """
    heads = _head_names(network)
    inside = tuple(f"{head}." for head in heads)
    firsts = {f"backbone.{name}.weight" for name in first_conv_names(network.backbone)}
    is_foreign = bool(file.modality) and file.modality != network.modality.name
    plan = _Plan()
    for name, old in network.state_dict().items():
        given = file.tensors.get(name)
        if given is not None and name in firsts and (is_foreign or _other_channels(given, old)):
            given = cross_modality(given, channels=old.shape[1])
            plan.adapted.append(name.removeprefix("backbone."))
        plan.put(name, given, old)
    head_replaced = any(name.startswith(inside) for name in plan.missing)
    _check(plan, file, head_prefixes=inside, backbone=backbone)
    if head_replaced:
        plan.drop(inside)
    network.load_state_dict(plan.found, strict=False)
    if head_replaced:
        for head in heads:
            _reset(network.get_submodule(head))
    return LoadReport(
        source=file.source,
        matched=tuple(plan.found),
        adapted=tuple(plan.adapted),
        inflated=tuple(plan.inflated),
        resized=tuple(plan.resized),
        missing=tuple(plan.missing),
        unexpected=tuple(name for name in file.tensors if name not in plan.found),
        head_replaced=head_replaced,
        has_classifier=bool(heads),
        notes=_notes(network, file),
    )


class _Plan:
    """Which tensors go in, before anything is changed."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}
        self.missing: list[str] = []
        self.adapted: list[str] = []
        self.inflated: list[str] = []
        self.resized: list[str] = []

    def put(self, name: str, given: Tensor | None, old: Tensor) -> None:
        short = name.removeprefix("backbone.")
        if given is not None and _is_flat(given, old):
            given = inflate(given, frames=old.shape[2])
            if old.shape[2] > 1:
                self.inflated.append(short)
        value = None if given is None else _shaped(given, old)
        if value is None and given is not None:
            value = resized_positions(short, given, old)
            if value is not None:
                self.resized.append(short)
        if value is None:
            self.missing.append(name)
        else:
            self.found[name] = value

    def drop(self, prefixes: tuple[str, ...]) -> None:
        for name in [name for name in self.found if name.startswith(prefixes)]:
            del self.found[name]
            self.missing.append(name)


def _other_channels(given: Tensor, old: Tensor) -> bool:
    kernels = given.ndim in (4, 5) and old.ndim in (4, 5)
    return kernels and given.shape[1] != old.shape[1]


def _is_flat(given: Tensor, old: Tensor) -> bool:
    """Tell whether `given` is a 2D kernel for the 3D kernel `old`."""
    return given.ndim == 4 and old.ndim == 5 and given.shape == (*old.shape[:2], *old.shape[3:])


def _shaped(given: Tensor, old: Tensor) -> Tensor | None:
    """Return `given` in the shape of `old`: equal, with extra axes of one, or a flat kernel."""
    if given.shape == old.shape:
        return given
    flat_kernel = given.ndim == 2 and old.ndim == 4 and given.shape[0] == old.shape[0]
    if given.numel() == old.numel() and (
        flat_kernel or given.squeeze().shape == old.squeeze().shape
    ):
        return given.reshape(old.shape)
    return None


def _head_names(network: SnippetNetwork) -> tuple[str, ...]:
    """Return the names of the classifiers (one, but for timm's distilled networks)."""
    found = network.backbone.get_classifier()  # type: ignore[operator]
    classifiers = found if isinstance(found, tuple) else (found,)
    return tuple(name for name, module in network.named_modules() if module in classifiers)


def _check(
    plan: _Plan, file: WeightsFile, *, head_prefixes: tuple[str, ...], backbone: str
) -> None:
    needed = [
        name
        for name in plan.missing
        if not name.startswith((*head_prefixes, *_OWN_PARTS))
        and not name.endswith(_MAY_BE_ABSENT)
        and _NEW_LAYERS not in name
    ]
    if not needed:
        return
    own = f" It was made for {file.backbone}." if file.backbone not in ("", backbone) else ""
    in_file = [name.removeprefix("backbone.") for name in list(file.tensors)[:3]]
    raise KinemaError(
        f"{file.source} does not fit the backbone '{backbone}': {len(needed)} of its "
        f"{len(plan.found) + len(plan.missing)} tensors are not in the file or have another shape, "
        f"such as {needed[0].removeprefix('backbone.')}; the file begins with "
        f"{', '.join(in_file) or 'nothing'}.{own} Set model.backbone to the network of the file, "
        "or give another file."
    )


def _notes(network: SnippetNetwork, file: WeightsFile) -> tuple[str, ...]:
    if file.normalise in ("", network.normalise):
        return ()
    return (
        f"it was trained with model.normalise={file.normalise}, "
        f"this network has {network.normalise}",
    )


@torch.no_grad()
def _reset(head: nn.Module) -> None:
    for module in head.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.normal_(module.weight, std=_NEW_HEAD_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
