"""What there is to know of a network by its short name: usual input, source, size."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from kinema.models.backbones import SHORT_NAMES
from kinema.models.catalog_sizes import SIZES
from kinema.models.clip_backbones import CLIP_BACKBONES, is_clip_backbone
from kinema.models.describe import meta_size
from kinema.models.hf_clips import HUB_NETWORKS

# Images and their side that a network is published with, by the beginning of its name; the first
# that fits counts.
_USUAL_INPUTS: tuple[tuple[str, int, int], ...] = (
    ("inception_v3", 1, 299),
    ("xception", 1, 299),
    ("r2plus1d_34_ig65m", 32, 112),
    ("r3d_", 16, 112),
    ("mc3_", 16, 112),
    ("r2plus1d", 16, 112),
    ("resnet3d", 16, 112),
    ("resnet2p1d", 16, 112),
    ("s3d", 64, 224),
    ("mvit", 16, 224),
    ("swin3d", 32, 224),
    ("i3d_resnet", 32, 224),
    ("i3d", 64, 224),
    ("c2d", 8, 224),
    ("slowonly", 8, 224),
    ("slowfast", 32, 224),
    ("x3d_xs", 4, 160),
    ("x3d_s", 13, 160),
    ("x3d_l", 16, 312),
    ("x3d", 16, 224),
    ("ircsn", 32, 224),
    ("ipcsn", 32, 224),
)
_SOURCES: tuple[tuple[str, str], ...] = (
    ("bn_inception", "arXiv 1502.03167"),
    ("tiny", "Kinema"),
    ("resnet3d", "arXiv 1711.09577"),
    ("resnet2p1d", "arXiv 2004.04968"),
    ("r3d_", "arXiv 1711.11248"),
    ("mc3_", "arXiv 1711.11248"),
    ("r2plus1d_34_ig65m", "arXiv 1905.00561"),
    ("r2plus1d", "arXiv 1711.11248"),
    ("resnet", "arXiv 1512.03385"),
    ("vgg", "arXiv 1409.1556"),
    ("densenet", "arXiv 1608.06993"),
    ("inception_v3", "arXiv 1512.00567"),
    ("xception", "arXiv 1610.02357"),
    ("mobilenet", "arXiv 1704.04861"),
    ("s3d", "arXiv 1712.04851"),
    ("mvit_v1", "arXiv 2104.11227"),
    ("mvit_v2", "arXiv 2112.01526"),
    ("swin3d", "arXiv 2106.13230"),
    ("i3d_resnet", "arXiv 1711.07971"),
    ("c2d", "arXiv 1711.07971"),
    ("i3d", "arXiv 1705.07750"),
    ("slow", "arXiv 1812.03982"),
    ("x3d", "arXiv 2004.04730"),
    ("ircsn", "arXiv 1904.02811"),
    ("ipcsn", "arXiv 1904.02811"),
    ("videomae", "arXiv 2203.12602"),
    ("timesformer", "arXiv 2102.05095"),
    ("vivit", "arXiv 2103.15691"),
    ("vjepa2", "arXiv 2506.09985"),
)


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One network with three channels and 400 classes (2D: 1000).

    `multiply_adds` are those for one snippet of `frames` images of `size` pixels.
    """

    name: str
    kind: str  # 2D or 3D
    frames: int
    size: int
    parameters: int
    multiply_adds: int
    source: str


def catalog(pattern: str = "") -> tuple[CatalogEntry, ...]:
    """Return the networks with a short name, 2D ones first.

    Args:
        pattern: a part of the name, or a glob such as ``x3d_*``; empty: all.
    """
    return tuple(_entry(name) for name in (*SHORT_NAMES, *CLIP_BACKBONES) if _fits(name, pattern))


def usual_input(name: str) -> tuple[int, int]:
    """Return images per snippet and their side in pixels that a network is published with."""
    if name in HUB_NETWORKS:
        return HUB_NETWORKS[name].frames, HUB_NETWORKS[name].size
    found = [row[1:] for row in _USUAL_INPUTS if name.startswith(row[0])]
    return found[0] if found else (16 if is_clip_backbone(name) else 1, 224)


def usual_classes(name: str) -> int:
    """Return the classes that a network is counted with: those of Kinetics or of ImageNet."""
    return 400 if is_clip_backbone(name) else 1000


def _entry(name: str) -> CatalogEntry:
    frames, size = usual_input(name)
    if name in SIZES:
        parameters, multiply_adds = SIZES[name]
    else:
        counted = meta_size(name, frames=frames, size=size, num_classes=usual_classes(name))
        parameters, multiply_adds = counted.parameters, counted.multiply_adds
    sources = [row[1] for row in _SOURCES if name.startswith(row[0])]
    return CatalogEntry(
        name=name,
        kind="3D" if is_clip_backbone(name) else "2D",
        frames=frames,
        size=size,
        parameters=parameters,
        multiply_adds=multiply_adds,
        source=sources[0] if sources else "",
    )


def _fits(name: str, pattern: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name, pattern.lower())
    return pattern.lower() in name
