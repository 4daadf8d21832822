"""Opens what a stream is read from: the video, its stored flow, or flow computed on the fly."""

from pathlib import Path

from kinema.data.items import ClipItem, ClipSpec
from kinema.errors import KinemaError
from kinema.flow.live import LiveFlow
from kinema.flow.store import FlowStore
from kinema.video.frames import FrameSource, open_frames


def open_source(item: ClipItem, spec: ClipSpec) -> FrameSource:
    """Open the images of a video that a clip is made of; the caller closes them.

    The stream "rgb" has frames (T, H, W, 3), "flow" has encoded pairs (T, H, W, 2), one fewer
    than frames, from the store where the item has one.

    Raises:
        KinemaError: a file has vanished or is unreadable, or the store has another bound or
            algorithm.
    """
    if spec.stream == "flow" and item.flow_path is not None:
        return _open_store(_present(item.flow_path, "kinema flow"), spec)
    frames = open_frames(_present(item.path, "kinema index"))
    if spec.stream == "rgb":
        return frames
    return LiveFlow(
        frames, algorithm=spec.flow_algorithm, bound=spec.flow_bound, size=spec.flow_size
    )


def _open_store(path: Path, spec: ClipSpec) -> FrameSource:
    store = FlowStore(path)
    for name, asked in (("bound", spec.flow_bound), ("algorithm", spec.flow_algorithm)):
        held = store.metadata.get(name, asked)
        if held != asked:
            store.close()
            raise KinemaError(
                f"{path} holds flow with {name} {held}, but {asked} is asked for: "
                f"set data.flow_{name}={held} or extract the flow again."
            )
    return store


def _present(path: Path, maker: str) -> Path:
    if not path.exists():
        raise KinemaError(
            f"{path} has vanished. Put it back, or run `{maker}` again to go on without it."
        )
    return path
