"""Flow in the layout of an older tool as the images of a clip, checked against the video's frames.

`kinema.video.image_checks` checks the same where frames and flow lie in one folder.
"""

from kinema.data.items import ClipItem
from kinema.errors import KinemaError
from kinema.flow.formats.old_flow import OldFlow
from kinema.flow.formats.videos import OldVideo
from kinema.video.frames import FrameSource
from kinema.video.images import is_images
from kinema.video.segment import Segment


def open_old(item: ClipItem, video: OldVideo, *, bound: float) -> FrameSource:
    """Open the old flow of a video; of a segment, the pairs within it.

    N frames have N - |s| pairs at stride s. dense_flow leaves the first frame of a video out of
    its images, so N images with N pairs are right too.

    Args:
        item: the video.
        video: its flow.
        bound: pixels that the ends of the old scale stand for, where the files do not tell it.

    Raises:
        KinemaError: an image of the flow is missing or damaged, or there are more or fewer pairs
            than the frames need.
    """
    flow = OldFlow(video, bound=bound)
    wanted = item.num_frames - abs(flow.stride)
    allowed = {wanted, item.num_frames} if is_images(item.path) else {wanted}
    if not item.num_frames or flow.num_frames in allowed:
        return flow
    if item.segment and item.segment[1] - abs(flow.stride) <= flow.num_frames and wanted > 0:
        start, end = item.segment
        return Segment(flow, (start, end - abs(flow.stride)), path=item.path)
    span = flow.pairs.span()
    flow.close()
    or_equal = (
        f" or, from tools that leave out the first frame, {item.num_frames}"
        if len(allowed) > 1
        else ""
    )
    raise KinemaError(
        f"{item.path} has {item.num_frames} frames and {flow.num_frames} flow pairs ({span}): "
        f"expected are {wanted}{or_equal}. Extract frames and flow of this video again, from the "
        "same file."
    )
