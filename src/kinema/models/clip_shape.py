"""What a 3D network is built for: the one argument of all their builders."""

from dataclasses import dataclass

from kinema.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What a 3D network is built for."""

    in_channels: int  # per image
    num_classes: int
    frames: int  # images per snippet, T
    size: int  # side of the images, pixels
    dropout: float = 0.0
    drop_path: float = 0.0
    nonlocal_blocks: int = 0
    nonlocal_form: str = "embedded"


def check_frames(name: str, shape: ClipShape, *, at_least: int) -> None:
    """Refuse a snippet that is too short for a network's strides in time.

    Raises:
        UsageError: fewer than `at_least` images.
    """
    if shape.frames < at_least:
        raise UsageError(
            f"data.stack={shape.frames} is too short for '{name}', which takes {at_least} images "
            f"or more per snippet: set data.stack={at_least} or higher."
        )
