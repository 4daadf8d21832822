"""A folder or archive with the old flow of many videos, used as a store of flow."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from kinema.errors import KinemaError
from kinema.files import read_json
from kinema.flow.formats.find import find_videos
from kinema.flow.formats.matching import by_id
from kinema.flow.formats.videos import OldVideo

_MANIFEST, _STORE = "manifest.json", "store"


def is_old_flow(root: Path) -> bool:
    """Tell whether a folder or archive holds flow in the layout of an older tool.

    A folder that `kinema flow` made says so itself. Any other is searched, but only until the
    first video is found; one that holds stores (mp4) and no old flow has none.
    """
    if root.is_file():
        return True
    if not root.is_dir():
        return False
    if (root / _MANIFEST).is_file():
        settings = read_json(root / _MANIFEST).get("settings", {})
        return bool(settings.get("layout", _STORE) != _STORE)
    return next(find_videos(root), None) is not None


def old_flow_of(root: Path, ids: Sequence[str], *, stride: int = 1) -> dict[str, OldVideo]:
    """Return the old flow of each video of an index, found but not opened.

    Ids are matched as `kinema.flow.formats.matching.by_id` does: by the path, or else by its last
    part whatever the case of the letters, so HandStandPushups and HandstandPushups are one.

    Args:
        root: folder, archive or HDF5 file.
        ids: of the index.
        stride: which pairs, where there are several kinds.

    Raises:
        KinemaError: videos without flow, with flow at other strides only, or with flow twice.
    """
    found = _found(root)
    if not found:
        raise KinemaError(f"There is no stored flow in {root}, in any of the known layouts.")
    at_stride = [video for video in found if video.stride == stride]
    if not at_stride:
        strides = ", ".join(str(number) for number in sorted({video.stride for video in found}))
        raise KinemaError(
            f"{root} holds flow at the strides {strides}, but data.flow_stride={stride} is asked "
            "for."
        )
    named = by_id(at_stride, ids)
    if named.failures:
        video, reason = named.failures[0]
        raise KinemaError(f"{root}: the video '{video}' cannot be used: {reason}")
    if named.missing:
        raise KinemaError(
            f"{len(named.missing)} of {len(ids)} videos have no flow in {root} (first: "
            f"{named.missing[0]}; found are {len(at_stride)}, such as {at_stride[0].id}). Extract "
            "it, or make the index again without them."
        )
    return named.videos


@lru_cache(maxsize=1)  # asked for once per part of an index, and a data set takes long to search
def _found(root: Path) -> tuple[OldVideo, ...]:
    return tuple(find_videos(root))
