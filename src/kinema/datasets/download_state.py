"""What of a download is done, kept beside the data so that the next call goes on from there."""

from pathlib import Path
from threading import Lock
from typing import Any

from kinema.errors import KinemaError, UsageError
from kinema.files import read_json, write_json

STATE_FILE = ".kinema-download.json"


class DownloadState:
    """The archives that are unpacked and the files that are in place, by name.

    Args:
        folder: of the data set.
        name: of the data set.

    Raises:
        UsageError: the folder holds another data set.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._name, self._lock = folder / STATE_FILE, name, Lock()
        content: Any = None
        if self._path.is_file():
            try:
                content = read_json(self._path)
            except KinemaError:  # then everything is looked at again
                content = None
        if not isinstance(content, dict) or not isinstance(content.get("done"), dict):
            content = {"data_set": name, "done": {}}
        if content.get("data_set") != name:
            raise UsageError(
                f"{folder} holds '{content.get('data_set')}': choose another folder for '{name}'."
            )
        self._done: dict[str, int] = content["done"]

    def is_done(self, key: str) -> bool:
        """Tell whether a file is in place, unpacked if it is an archive."""
        return key in self._done

    def add(self, key: str, num_files: int) -> None:
        """Note that a file is in place and how many files came out of it."""
        with self._lock:
            self._done[key] = num_files
            write_json(self._path, {"data_set": self._name, "done": self._done})
