"""The one way to write a picture size: `WxH`, `short:S` or `none`."""

from functools import lru_cache

from kinema.errors import UsageError


@lru_cache(maxsize=32)
def parse_size(text: str) -> tuple[int, int] | int | None:
    """Read a size: "WxH" gives (width, height), "short:S" gives S, "none" gives None.

    Raises:
        UsageError: the text is none of these, or a side is not positive.
    """
    kind, _, side = text.partition(":")
    width, cross, height = text.partition("x")
    if text == "none":
        return None
    if kind == "short" and side.isdecimal() and int(side) > 0:
        return int(side)
    if cross and width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0:
        return int(width), int(height)
    raise UsageError(
        f"'{text}' is not a size: write WIDTHxHEIGHT (340x256), short:SIDE (short:256) or none."
    )


def target_size(text: str, *, height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) to which `parse_size`'s text brings an image.

    With "short:S" the shorter side becomes S and the longer one is rounded down.
    """
    size = parse_size(text)
    if size is None:
        return height, width
    if isinstance(size, tuple):
        return size[1], size[0]
    if height <= width:
        return size, size * width // height
    return size * height // width, size


def shrunk_size(text: str, *, height: int, width: int) -> tuple[int, int]:
    """Return the same as `target_size`, but let "short:S" leave smaller images as they are."""
    size = parse_size(text)
    if isinstance(size, int) and min(height, width) <= size:
        return height, width
    return target_size(text, height=height, width=width)
