"""`frame_count.pickle` of the older two-stream tools: number of images of each video."""

from dataclasses import replace
from pathlib import Path

from kinema.datasets.list_files import list_folders
from kinema.datasets.listing import Listing
from kinema.errors import KinemaError
from kinema.score_formats.listing import key
from kinema.score_formats.safe_pickle import load_pickle

_PATTERN = r"frame_count.*\.(pickle|pkl)"


def read_frame_counts(path: Path) -> dict[str, int]:
    """Return the number of images by the name of the video, in the form that `key` gives.

    Nothing that the file asks for is called: it is read as data.

    Raises:
        KinemaError: it is no pickle of a table of names and numbers.
    """
    try:
        with path.open("rb") as handle:
            content = load_pickle(handle)
    except KinemaError as error:
        raise KinemaError(f"{path} cannot be used: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(count, int) for name, count in content.items()
    ):
        raise KinemaError(f"{path} is not a table of video names and numbers of frames.")
    return {key(name): count for name, count in content.items()}


def with_frame_counts(listing: Listing, place: Path) -> Listing:
    """Note what a `frame_count.pickle` among the lists says of each video, where there is one.

    Args:
        listing: the videos.
        place: folder of the lists.

    Raises:
        KinemaError: see `read_frame_counts`.
    """
    found = [path for folder in list_folders(place) for path in folder.matching(_PATTERN)]
    if not found:
        return listing
    counts = read_frame_counts(found[0])
    videos = tuple(
        replace(video, claimed_frames=video.claimed_frames or counts.get(key(video.id), 0))
        for video in listing.videos
    )
    return replace(listing, videos=videos)
