"""Feature files of checkpoints: one for each part of an index."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinema.datasets.index import check_files, read_index
from kinema.engine.checkpoint import Checkpoint, load_checkpoint
from kinema.engine.evaluate import TestSettings
from kinema.engine.extract_features import FeatureKind, extract, read_inside
from kinema.engine.items import stream_items
from kinema.engine.protocols import find_protocol
from kinema.engine.runtime import Runtime, runtime
from kinema.errors import KinemaError, UsageError
from kinema.models.snippet_network import SnippetNetwork
from kinema.streams import stream_name
from kinema.testing import Part, TestOptions, data_config

PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Which features of which videos.

    With `augment`, `passes` random passes with the training's augmentation are views, of
    `snippets` clips each (0: as many as the checkpoint's protocol has).
    """

    part: Part | None = None  # None: every part of the index; with `augment` the training part
    maps: bool = False
    augment: bool = False
    passes: int = 1
    snippets: int = 0
    seed: int = 0
    test: TestOptions = field(default_factory=TestOptions)

    def __post_init__(self) -> None:
        if not self.augment and (self.passes != 1 or self.snippets):
            raise UsageError(
                "--passes and --snippets are for random passes: add --augment, or let a protocol "
                "say which clips there are (--protocol)."
            )
        if self.augment and self.test.protocol:
            raise UsageError(
                "Give --protocol or --augment, not both: random passes have no protocol, only "
                "--snippets."
            )
        if self.passes < 1 or self.snippets < 0:
            raise UsageError("At least 1 pass and 1 snippet are needed.")


def write_features(
    checkpoints: Sequence[Path], out: Path, *, options: FeatureOptions | None = None
) -> list[Path]:
    """Write ``OUT/STREAM-PART.safetensors`` for each checkpoint and part; a stopped one goes on.

    Streams are called by their modality, a second one of it ``rgb-2``.

    Raises:
        KinemaError: no such part, a network without features of single snippets, missing files,
            or other features of that name in `out`.
    """
    options = options or FeatureOptions()
    found: list[Path] = []
    names: list[str] = []
    test = options.test
    with runtime(device=test.device, precision=test.precision, threads=test.threads) as place:
        if place.world > 1:
            raise KinemaError(
                "Features are extracted by one process: leave torchrun out, or give each process "
                "a part (--part) or a checkpoint of its own."
            )
        for path in checkpoints:
            checkpoint = load_checkpoint(path, device=place.device)
            stream = stream_name(checkpoint.config)
            names.append(stream)
            count = names.count(stream)
            name = stream if count == 1 else f"{stream}-{count}"
            found += _of_checkpoint(checkpoint, out / name, options, place)
    return found


def _of_checkpoint(
    checkpoint: Checkpoint, stem: Path, options: FeatureOptions, place: Runtime
) -> list[Path]:
    test = options.test
    data = data_config(checkpoint, test)
    index = read_index(Path(data.index))
    check_files(index)
    network = checkpoint.network
    if not isinstance(network, SnippetNetwork):
        raise KinemaError(
            "Features are those of one stream, and this checkpoint has two "
            f"({stream_name(checkpoint.config)}): give the checkpoint of each, such as "
            "best-rgb.safetensors beside it."
        )
    read_inside(network, checkpoint.config.model, maps=options.maps)
    settings = TestSettings(
        config=replace(checkpoint.config, data=data),
        protocol=find_protocol(test.protocol) if test.protocol else checkpoint.protocol,
        classes=checkpoint.classes,
        checkpoint_hash=checkpoint.hash,
        views_per_pass=test.views_per_pass,
    )
    kind = FeatureKind(
        maps=options.maps,
        passes=options.passes if options.augment else 0,
        snippets=options.snippets or settings.protocol.num_clips,
        seed=options.seed,
    )
    wanted = [options.part] if options.part else ["train"] if options.augment else PARTS
    found = []
    for part in wanted:
        items = stream_items(index, part, classes=checkpoint.classes, data=data)
        if items:
            path = stem.with_name(f"{stem.name}-{part}.safetensors")
            extract(network, items, settings, path=path, kind=kind, runtime=place)
            found.append(path)
    if not found:
        raise KinemaError(f"{data.index} has no video in the part '{wanted[0]}'.")
    return found
