"""Old flow images, written by OpenCV alone, and what they mean."""

import cv2
import numpy as np

HEIGHT, WIDTH = 20, 30


def levels_of(number, component, *, height=HEIGHT, width=WIDTH):
    """A smooth old flow image."""
    rng = np.random.default_rng(10 * number + component)
    smooth = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 5)
    return np.clip(smooth / np.abs(smooth).max() * 120 + 128, 0, 255).astype(np.uint8)


def write_pairs(folder_x, folder_y, name_x, name_y, numbers, **size):
    for number in numbers:
        for component, (folder, name) in enumerate(((folder_x, name_x), (folder_y, name_y))):
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / (name % number)), levels_of(number, component, **size))


def kinema_levels(old):
    """The old formula's motion in Kinema's encoding, independent of the package's tables."""
    return np.clip(np.rint((old / 255 * 2 - 1) * 127), -127, 127) + 128


def tsn(folder, numbers=range(1, 6), **size):
    write_pairs(folder, folder, "flow_x_%05d.jpg", "flow_y_%05d.jpg", numbers, **size)
    return folder
