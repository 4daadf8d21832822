"""What became of one of many videos: what was made of it, or the reason why there is nothing."""

import errno
from dataclasses import dataclass
from typing import TypeVar

import av
import cv2

from kinema.errors import KinemaError

# What a bad video, a full disk or too little memory raises: it costs one video, not the run.
FAULTS = (KinemaError, OSError, MemoryError, av.FFmpegError, cv2.error)

Made = TypeVar("Made", bound="VideoOutcome")


@dataclass(frozen=True, kw_only=True)
class VideoOutcome:
    """What became of a video; others add what was made of it."""

    id: str
    failure: str = ""  # the reason; empty: none
    is_disk_full: bool = False

    @classmethod
    def failed(cls: type[Made], id: str, error: Exception) -> Made:
        """Return the outcome of a video whose work ended with one of `FAULTS`."""
        cause = error if isinstance(error, OSError) else error.__cause__
        return cls(
            id=id,
            failure=str(error) or type(error).__name__,
            is_disk_full=isinstance(cause, OSError) and cause.errno == errno.ENOSPC,
        )
