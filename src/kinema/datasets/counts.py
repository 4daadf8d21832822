"""How many frames a row has, and whether that is what its list says."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kinema.datasets.listing import Listed
from kinema.video.probe import Probe


def segment_of(video: Listed, probe: Probe) -> tuple[int, int] | None:
    """Return the frames of a video's segment; None where all of the video is meant.

    Raises:
        KinemaError: the segment is not in the video.
    """
    if video.span is None:
        return None
    return video.span.resolve(num_frames=probe.num_frames, fps=probe.fps)


def num_frames_of(video: Listed, probe: Probe) -> int:
    """Return the number of frames of a video, or of its segment.

    Raises:
        KinemaError: the segment is not in the video.
    """
    segment = segment_of(video, probe)
    return segment[1] - segment[0] if segment else probe.num_frames


def count_notes(videos: Sequence[Listed], probes: Mapping[Path, Probe]) -> list[str]:
    """Return a line on the videos that have another number of frames than their list says.

    Older tools count the images of flow, one fewer than frames: that is no difference.
    """
    wrong = []
    known = [video for video in videos if video.claimed_frames]
    for video in known:
        found = num_frames_of(video, probes[video.path])
        if video.claimed_frames not in (found, found - 1):
            wrong.append((video, found))
    if not wrong:
        return []
    video, found = wrong[0]
    return [
        f"{len(wrong)} of {len(known)} videos have another number of frames than the lists say, "
        f"such as '{video.id}': {video.claimed_frames} listed, {found} found. What was found is "
        "used: make sure that these are the videos the lists were made for."
    ]
