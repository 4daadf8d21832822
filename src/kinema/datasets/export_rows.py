"""What every exported list is made of: rows by split and part, and where their images are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kinema.datasets.index import PARTS, Index, Video
from kinema.errors import KinemaError
from kinema.framing.job import FrameJob
from kinema.framing.layouts import find_layout
from kinema.video.images import is_images

Content = str | bytes  # of a file


@dataclass(frozen=True, kw_only=True)
class Rows:
    """An index, and the folder of the images that old tools read."""

    index: Index
    root: str = ""
    layout: str = "hara"  # of the images, a name of `kinema.framing.layouts`

    @property
    def num_splits(self) -> int:
        """How many official splits there are, 1 where none is."""
        return max(1, len(self.index.videos[0].splits)) if self.index.videos else 1

    def parts(self) -> Iterator[tuple[int, str, tuple[Video, ...]]]:
        """Yield (split, part, videos) of every part that is not empty, splits from 1."""
        for split in range(1, self.num_splits + 1):
            for part in PARTS:
                videos = self.index.part(part, official=split)
                if videos:
                    yield split, part, videos

    def number(self, video: Video) -> int:
        """Return the class of a video, from 0."""
        return self.index.classes.index(video.label)

    def images(self, video: Video) -> str:
        """Return where an old tool finds the folder of a video's images."""
        if self.root:
            return self.below(Path(self.root), video).as_posix()
        return video.path.as_posix() if is_images(video.path) else video.id

    def below(self, root: Path, video: Video) -> Path:
        """Return where `kinema frames` writes the images of a video."""
        job = FrameJob(id=video.id, path=video.path, label=video.label)
        return find_layout(self.layout).place(root, folder=job.folder, video=job.video)

    def place(self, video: Video) -> str:
        """Return where a tool that reads videos as well finds it."""
        return self.images(video) if self.root else video.path.as_posix()


def name_of(video: Video) -> str:
    """Return the last part of a video's id, by which most old tools know it."""
    return PurePosixPath(video.id).name


def check_names(videos: Sequence[Video], *, what: str, with_label: bool = False) -> None:
    """Refuse two videos of one name where a list knows a video by its name.

    Args:
        videos: all that are listed.
        what: the kind of list, for the message.
        with_label: videos of two classes may have the same name.

    Raises:
        KinemaError: there are such videos.
    """
    first: dict[tuple[str, str], str] = {}
    for video in videos:
        key = (video.label if with_label else "", name_of(video))
        known = first.setdefault(key, video.id)
        if known != video.id:
            raise KinemaError(
                f"'{known}' and '{video.id}' have the same name, but {what} knows a video by its "
                "name alone. Rename one of the files and make the index again."
            )


def check_places(places: Sequence[str], *, what: str) -> None:
    """Refuse two videos in one place, and what would fall into two columns.

    Raises:
        KinemaError: a place is there twice, or has a space in it.
    """
    doubled = [place for place, count in Counter(places).items() if count > 1]
    if doubled:
        raise KinemaError(
            f"Two videos would be '{doubled[0]}' in the lists of {what}, which has them all in one "
            "folder. Rename one of the files and make the index again."
        )
    spaced = [text for text in places if len(text.split()) != 1]
    if spaced:
        raise KinemaError(
            f"'{spaced[0]}' has a space in it, but {what} separates its columns by spaces. Rename "
            "it and make the index again."
        )
