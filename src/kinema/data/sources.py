"""Opens what a stream is read from: the video, its stored frames or flow, flow on the fly."""

from pathlib import Path

from kinema.data.items import ClipItem, ClipSpec
from kinema.data.old_flow import open_old
from kinema.errors import KinemaError
from kinema.flow.live import LiveFlow
from kinema.flow.options import FlowOptions
from kinema.flow.store import FlowStore
from kinema.video.frames import FrameSource
from kinema.video.images import is_there
from kinema.video.rgb_store import RgbStore
from kinema.video.segment import open_segment


def open_source(item: ClipItem, spec: ClipSpec) -> FrameSource:
    """Open the images of a video that a clip is made of; the caller closes them.

    The stream "rgb" has frames (T, H, W, 3), "flow" has encoded pairs (T, H, W, 2), one fewer
    than frames; each from its store where the item has one. Flow on the fly is always computed
    from the video itself.

    Raises:
        KinemaError: a file has vanished or is unreadable, the store has another bound or
            algorithm, or old flow does not go with the frames by its number.
    """
    if spec.stream == "flow" and item.old_flow is not None:
        return open_old(item, item.old_flow, bound=spec.flow_bound)
    if spec.stream == "flow" and item.flow_path is not None:
        return _open_store(_present(item.flow_path, "kinema flow"), spec)
    if spec.stream == "rgb" and item.frame_path is not None:
        return RgbStore(_present(item.frame_path, "kinema pack"))
    frames = open_segment(_present(item.path, "kinema index"), item.segment)
    if spec.stream == "rgb":
        return frames
    options = FlowOptions(
        algorithm=spec.flow_algorithm,
        weights=spec.flow_weights,
        bound=spec.flow_bound,
        size=spec.flow_size,
        stride=spec.flow_stride,
        gray=spec.flow_gray,
        warp=spec.flow_warp,
    )
    return LiveFlow.of(frames, options)


def _open_store(path: Path, spec: ClipSpec) -> FrameSource:
    store = FlowStore(path)
    if store.metadata.get("adaptive"):
        store = FlowStore(path, as_bound=spec.flow_bound)
    held = {"stride": 1, "gray": "after", "warp": False, **store.metadata, "bound": store.bound}
    for name in ("bound", "algorithm", "stride", "gray", "warp"):
        asked = getattr(spec, f"flow_{name}")
        if held.get(name, asked) != asked:
            raise KinemaError(
                f"{path} holds flow with {name} {held[name]}, but {asked} is asked for: "
                f"set data.flow_{name}={held[name]} or extract the flow again."
            )
    return store


def _present(path: Path, maker: str) -> Path:
    if not is_there(path):
        raise KinemaError(
            f"{path} has vanished. Put it back, or run `{maker}` again to go on without it."
        )
    return path
