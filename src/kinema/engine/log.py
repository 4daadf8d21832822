"""What a training writes down: `metrics.jsonl` and TensorBoard's events."""

import json
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError
from kinema.files import write_text


class RunLog:
    """One line per epoch; after a resume, lines of later epochs are dropped."""

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.jsonl"
        self._lines = [line for line in read_metrics(self._path) if line["epoch"] < first_epoch]
        self._write_lines()
        self._board = SummaryWriter(str(folder), purge_step=first_epoch)

    def write(self, line: dict[str, Any]) -> None:
        """Add the figures of an epoch.

        Raises:
            KinemaError: they cannot be written.
        """
        self._lines.append(line)
        self._write_lines()
        try:
            for name, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, line["epoch"])
            self._board.flush()
        except OSError as error:
            raise KinemaError(
                f"Cannot write TensorBoard's events in {self._path.parent}: {error}. "
                "Make room and run the same command again."
            ) from error

    def _write_lines(self) -> None:
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in self._lines))

    def close(self) -> None:
        """End the events file."""
        self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read `metrics.jsonl`; a last line that was cut short is left out."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines
