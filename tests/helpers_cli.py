"""The command line within this process, and a small run that went through to its end."""

import io
import os
import shutil
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from helpers_video import Spec, make_sound, make_video
from kinema.cli import main
from kinema.files import write_text
from kinema.samples import make_samples
from kinema.scores import load_scores

OPTIONS = ("--recipe", "tiny", "--flow-size", "none")
STREAMS = ("rgb", "flow")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a failed command, which is one line and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0].removeprefix("Error: ")


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    data: Path
    folder: Path
    outcome: Outcome

    def checkpoint(self, stream: str) -> Path:
        return self.folder / stream / "best.safetensors"

    def scores(self, stream: str, part: str = "test"):
        return load_scores(self.folder / stream / "scores" / f"{part}.npz")

    @property
    def fused(self):
        return load_scores(self.folder / "scores" / "fused.npz")

    def video(self, id: str) -> Path:
        return self.data / f"{id}.mp4"


def kinema(*arguments: object) -> Outcome:
    """Run a command as if it were typed."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    words = ["kinema", *map(str, arguments)]
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
    assert isinstance(code, int)
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


def finish_run(folder: Path) -> FinishedRun:
    data = folder / "data"
    make_samples(data, videos_per_class=4, num_scenes=4, num_frames=10, size=(64, 64))
    outcome = kinema("run", data, "--out", folder / "run", *OPTIONS)
    assert outcome.code == 0, outcome.err
    return FinishedRun(data=data, folder=folder / "run", outcome=outcome)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def video_like(path: Path, *, seed: int = 0, **spec: object) -> Path:
    """A short video with its own content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"num_frames": 10, "width": 64, "height": 64, "options": {"g": str(5 + seed)}}
    return make_video(path, Spec(**{**values, **spec}))


BROKEN = {
    "empty.mp4": "is empty (0 bytes)",
    "text.mp4": "is not a video that FFmpeg can read",
    "sound.mp4": "has sound but no video",
    "truncated.mp4": "is truncated",
    "frameless.avi": "has no frames",
}


def make_broken(folder: Path) -> Path:
    """Write a file of every broken kind, under the names of `BROKEN`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.mp4").touch()
    write_text(folder / "text.mp4", "this is no video\n" * 50)
    make_sound(folder / "sound.mp4")
    whole = video_like(folder / "whole.mp4", seed=50)
    (folder / "truncated.mp4").write_bytes(whole.read_bytes()[:-600])
    whole.unlink()
    video = video_like(folder / "frameless.avi", codec="mpeg4", options={})
    content = video.read_bytes()
    start, end = content.index(b"movi"), content.index(b"idx1")
    blank = content[start : start + 4] + bytes(np.zeros(end - start - 4, np.uint8))
    video.write_bytes(content[:start] + blank + content[end:])
    return folder


@contextmanager
def inside(folder: Path):
    """Work in another folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def copy_of(run: FinishedRun, to: Path) -> Path:
    return Path(shutil.copytree(run.folder, to))
