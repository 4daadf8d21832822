"""Image files as bytes: to pixels, from pixels, and what their first bytes tell.

Shapes: H, W, C channels.
"""

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError

JPEG_QUALITY = 95  # OpenCV's own, and so that of the older tools
_END_OF_JPEG, _END_OF_PNG = b"\xff\xd9", b"IEND"
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
# Markers of JPEG that begin a frame, and so tell the size: all of C0 to CF but tables.
_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def encode_image(image: NDArray[np.uint8], suffix: str, *, quality: int = JPEG_QUALITY) -> bytes:
    """Return an image as the bytes of a file, JPEG or PNG.

    Args:
        image: (H, W) gray, or (H, W, 3) blue, green, red.
        suffix: ".jpg" or ".png".
        quality: of JPEG, 1 to 100.
    """
    options = (cv2.IMWRITE_JPEG_QUALITY, quality) if suffix == ".jpg" else ()
    return cv2.imencode(suffix, image, options)[1].tobytes()


def encode_frame(
    frame_HWC: NDArray[np.uint8], suffix: str = ".jpg", *, quality: int = JPEG_QUALITY
) -> bytes:
    """Return an RGB frame as the bytes of a JPEG or PNG file."""
    image = np.asarray(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR), np.uint8)
    return encode_image(image, suffix, quality=quality)


def decode_image(data: bytes, *, what: str, flags: int) -> NDArray[np.uint8]:
    """Return the picture in the bytes of an image file.

    Args:
        data: the file.
        what: names it in messages.
        flags: of `cv2.imdecode`.

    Raises:
        KinemaError: it is damaged or cut off.
    """
    check_end(data, what=what)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise KinemaError(f"{what} cannot be read as an image: {error}.") from error
    if image is None:
        raise KinemaError(f"{what} cannot be read as an image: it is damaged.")
    return np.asarray(image, np.uint8)


def check_end(data: bytes, *, what: str) -> None:
    """Refuse a JPEG or PNG file whose end is not there.

    Raises:
        KinemaError: it is cut off.
    """
    is_jpeg = data[:2] == b"\xff\xd8"
    end = _END_OF_JPEG if is_jpeg else _END_OF_PNG if data[1:4] == b"PNG" else b""
    if data.rfind(end) < len(data) // 2:
        raise KinemaError(f"{what} is cut off ({len(data)} bytes): extract this video again.")


def image_size(data: bytes, *, what: str) -> tuple[int, int]:
    """Return (height, width) of an image file; of JPEG and PNG from their heads alone.

    Args:
        data: the file.
        what: names it in messages.

    Raises:
        KinemaError: it is no image, or cut off.
    """
    check_end(data, what=what)
    size = _png_size(data) if data.startswith(_PNG_HEAD) else _jpeg_size(data)
    if size is None:
        image = decode_image(data, what=what, flags=cv2.IMREAD_COLOR)
        size = image.shape[0], image.shape[1]
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24:
        return None
    width, height = struct.unpack_from(">2I", data, 16)
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width); None where the head tells none, or is turned by Exif."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xE1:  # Exif may turn the picture: decoding knows
            return None
        if marker in _STARTS_OF_FRAME:
            height, width = struct.unpack_from(">2H", data, place + 5)
            return height, width
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
