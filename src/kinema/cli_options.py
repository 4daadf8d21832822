"""Options that several commands share, the choices that they offer, and how they are read."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer

from kinema.config import ModalityName
from kinema.datasets.names import DatasetName
from kinema.datasets.names import ListFormat as ListFormatName
from kinema.errors import UsageError
from kinema.flow.formats.names import LAYOUTS
from kinema.framing.layouts import LAYOUTS as FRAME_LAYOUTS

_WEIGHTS_SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".h5", ".bin")


def _choices(name: str, values: tuple[str, ...]) -> Any:  # noqa: ANN401
    """Return an enumeration, which the command line shows as the values allowed."""
    return Enum(name, {value.replace("-", "_"): value for value in values}, type=str)


Modality = _choices("Modality", get_args(ModalityName))
# The table itself is not loaded for a help text; a test keeps this list equal to it.
Algorithm = _choices(
    "Algorithm",
    (
        "dis",
        "dis-fast",
        "dis-ultrafast",
        "farneback",
        "tvl1",
        "tvl1-fast",
        "raft-small",
        "raft-large",
        "motion-vectors",
        "motionnet",
    ),
)
Format = _choices("Format", ("store", *LAYOUTS))
FrameLayout = _choices("FrameLayout", tuple(FRAME_LAYOUTS))
ImageFormat = _choices("ImageFormat", ("jpg", "png"))
Gray = _choices("Gray", ("after", "before"))
Dataset = _choices("Dataset", get_args(DatasetName))
ListFormat = _choices("ListFormat", get_args(ListFormatName))
Part = _choices("Part", ("train", "val", "test"))
Rule = _choices("Rule", ("logits", "softmax", "l1"))
FusionMethod = _choices("FusionMethod", ("weights", "svm", "mlp", "gated", "bilinear"))
Quality = _choices("Quality", ("standard", "lossless"))
Precision = _choices("Precision", ("auto", "fp32", "bf16", "fp16"))

# What goes in and comes out.
DATA = typer.Argument(metavar="DATA", help="Folder of videos (a folder per class), or a CSV file.")
INDEX = typer.Argument(metavar="INDEX", help="Folder that `kinema index` made.")
CHECKPOINTS = typer.Argument(metavar="CHECKPOINT", help="Files, or the folder of a run.")
SCORE_FILES = typer.Argument(metavar="SCORES", help="Score files, one per stream.")
INPUTS = typer.Argument(
    metavar="CHECKPOINT SOURCE",
    help="Run folder or checkpoints, then videos, folders or patterns.",
)
OVERRIDES = typer.Argument(metavar="SECTION.FIELD=VALUE", help="Changed settings.")
OUT = typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write to.")
SCORE_FILE = typer.Option("--out", "-o", metavar="FILE", help="Score file (.npz) to write.")
HTML_FILE = typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")
OVERLAYS = typer.Option(metavar="FOLDER", help="Write overlay videos: frame, flow, scores.")
OTHER_INDEX = typer.Option("--index", metavar="FOLDER", help="Another index than the training's.")
FLOW_STORE = typer.Option("--flow", metavar="FOLDER", help="Of stored flow; none: on the fly.")
FRAME_STORE = typer.Option(
    "--frames", metavar="FOLDER", help="Made by `kinema pack`; none: the videos themselves."
)
OTHER_FLOW_STORE = typer.Option("--flow", metavar="FOLDER", help="Of stored flow; '': on the fly.")
SPLITS = typer.Option(metavar="FOLDER", help="Where the official or older lists are; or a list.")
DATASET = typer.Option(metavar="NAME", help=f"Layout: {', '.join(name.value for name in Dataset)}.")
LIST_FORMAT = typer.Option(
    "--format", metavar="NAME", help=f"Whose: {', '.join(name.value for name in ListFormat)}."
)
LIST_ROOT = typer.Option(
    metavar="FOLDER", help="Of the images, as `kinema frames` wrote them; none: the videos."
)
LIST_OF_IDS = typer.Option(metavar="FILE", help="List of the videos, for files of older systems.")
LIST_OF_CLASSES = typer.Option(metavar="FILE", help="Class names, for files of older systems.")

# How videos are divided.
GROUP = typer.Option(
    metavar="REGEX", help="What finds the group in a video's id; or a column of the CSV."
)
TEST_FRACTION = typer.Option(metavar="SHARE", help="Held out for testing, where no split is given.")
VAL_FRACTION = typer.Option(metavar="SHARE", help="Of the training videos, for validation.")
TEST_GROUPS = typer.Option(
    metavar="NAMES", help="Exactly these groups are tested on, separated by commas."
)
IMAGE_FPS = typer.Option(min=0, metavar="NUMBER", help="Frames per second of image folders.")
MIN_FRAMES = typer.Option(min=1, metavar="NUMBER", help="Reject videos with fewer frames.")
OFFICIAL_SPLIT = typer.Option(min=0, metavar="NUMBER", help="1 to 3; 0: the checkpoint's.")
SEED = typer.Option(metavar="NUMBER", help="Of splits and training.")

# Flow, networks, tests.
_ALGORITHMS = ", ".join(algorithm.value for algorithm in Algorithm)
ALGORITHM = typer.Option(metavar="NAME", help=f"Of the flow: {_ALGORITHMS}.")
MOTION_WEIGHTS = typer.Option(
    "--weights", metavar="FILE", help="Of motionnet: what `kinema train-motion` wrote."
)
FLOW_SIZE = typer.Option(
    metavar="SIZE", help="Images are brought to WxH or short:S for the flow; or none."
)
BOUND = typer.Option(metavar="PIXELS", help="Largest motion stored, per frame.")
FLOW_BOUND = typer.Option(
    "--bound",
    metavar="PIXELS",
    help="Largest motion stored; or adaptive: each video's own. Else 20, or the older tool's.",
)
STRIDE = typer.Option(metavar="FRAMES", help="From frame t to t + this; negative: backwards.")
GRAY = typer.Option(help="Frames become gray after they are resized, or before.")
WARP = typer.Option("--warp", help="Take the camera's motion out.")
FORMAT = typer.Option(
    "--format", metavar="NAME", help=f"A store, or an older tool's layout: {', '.join(LAYOUTS)}."
)
RAY = typer.Option(metavar="ADDRESS", help="Use the machines of a Ray cluster.")
OLD_FLOW = typer.Argument(metavar="FOLDER", help="Flow images, zips or HDF5 files.")
TOLD_ALGORITHM = typer.Option(metavar="NAME", help="What it was computed with, if known.")
IDS_OF_INDEX = typer.Option(
    "--index", metavar="FOLDER", help="Name the stores as this index names its videos."
)
SHORT_SIDE = typer.Option(
    min=0, metavar="PIXELS", help="Larger frames are shrunk to this; 0: native size."
)
VERIFY = typer.Option("--verify", help="Only check what is stored.")
WORKERS = typer.Option(min=0, metavar="NUMBER", help="Processes; 0: one per core.")
SHARD = typer.Option(metavar="I/N", help="Part i of n, from 0, for job arrays.")
RECIPE = typer.Option(metavar="NAME", help="A name of `kinema recipes`.")
STREAMS = typer.Option(metavar="NAMES", help="rgb, flow, rgbdiff, separated by commas.")
FUSION = typer.Option(
    metavar="NAMES",
    help="Train more than the average on the streams: all, or names such as svm,joint,emv.",
)
PROTOCOL = typer.Option(
    metavar="NAME", help="Of `kinema recipes`, or a JSON file; else the recipe's."
)
VIEWS_PER_PASS = typer.Option(
    min=0, metavar="NUMBER", help="Bounds the memory; 0: what suits network and device."
)
WEIGHTS = typer.Option(metavar="NUMBERS", help="Of the streams, as 1,1.5 or 1/3,2/3.")
SEARCH_ON = typer.Option(
    metavar="FILES", help="Validation score files, by commas: find the weights there."
)
TRAIN_ON = typer.Option(
    metavar="FILES", help="Validation files, by commas: a fusion is learned on them, by --method."
)
FUSION_METHOD = typer.Option(help="Of a learned fusion; svm and mlp also take feature files.")
FUSION_SEED = typer.Option(metavar="NUMBER", help="Of a learned fusion.")
FUSED_CHECKPOINTS = typer.Option(
    "--checkpoints", metavar="FILES", help="Of the score files, by commas; or a run: for --save."
)
SAVE_FUSED = typer.Option(
    "--save", metavar="FILE", help="Networks and fusion in one .safetensors, for predict and test."
)
NUM_SPLITS = typer.Option(
    min=0, metavar="NUMBER", help="Of official splits: {} in the names is 1 to this."
)
TOP = typer.Option(min=1, metavar="NUMBER", help="Classes shown per video.")
DEVICE = typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.")


def words(text: str) -> tuple[str, ...]:
    """Split a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str) -> tuple[float, ...]:
    """Split a list of numbers; fractions such as 1/3 are allowed.

    Raises:
        UsageError: something in it is no number.
    """
    found = []
    for part in words(text):
        above, _, below = part.partition("/")
        try:
            found.append(float(above) / float(below or 1))
        except (ValueError, ZeroDivisionError) as error:
            raise UsageError(f"'{part}' in '{text}' is not a number.") from error
    return tuple(found)


def bound_of(text: str, layout: str) -> dict[str, Any]:
    """Read a bound of flow: pixels, that every video gets its own, or nothing for the usual one.

    Raises:
        UsageError: neither a number nor "adaptive".
    """
    if not text:
        return {"bound": LAYOUTS[layout].bound if layout in LAYOUTS else 20.0}
    if text == "adaptive":
        return {"adaptive": True}
    try:
        return {"bound": float(text)}
    except ValueError as error:
        raise UsageError(
            f"--bound {text} is not possible: write pixels, such as 20, or adaptive."
        ) from error


def part_of(text: str) -> tuple[int, int]:
    """Read a part as "i/n", counted from 0.

    Raises:
        UsageError: it has another form.
    """
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise UsageError(f"--shard {text} is not possible: write i/n, such as 0/4 to 3/4.")
    return int(part), int(parts)


def check_split_names(paths: Sequence[Path], splits: int) -> None:
    """Check that the names of score files hold {} where the splits are asked for, and only there.

    Raises:
        UsageError: a name without {}, or with {} where no --splits is given.
    """
    for path in paths:
        if splits and "{}" not in str(path):
            raise UsageError(
                f"{path} has no {{}} in its name, which --splits {splits} fills with 1 to {splits}."
            )
        if not splits and "{}" in str(path):
            raise UsageError(f"{path} has {{}} in its name: say how many --splits there are.")


def of_split(paths: Sequence[Path], split: int) -> list[Path]:
    """Return the paths with {} replaced by the number of the split."""
    return [Path(str(path).replace("{}", str(split))) for path in paths]


def score_path(path: Path) -> Path:
    """Return the path of a score file that is to be written.

    Raises:
        UsageError: it has another suffix than .npz.
    """
    if path.suffix != ".npz":
        raise UsageError(f"--out {path} is not possible: a score file ends in .npz.")
    return path


def checkpoints_and_sources(inputs: list[str]) -> tuple[list[Path], list[str]]:
    """Divide the arguments of `predict` into checkpoints (or run folders) and videos.

    Raises:
        UsageError: one of the two is missing, or a file of weights is no checkpoint of Kinema.
    """
    checkpoints = [Path(name) for name in inputs if _is_checkpoint(Path(name))]
    sources = [name for name in inputs if not _is_checkpoint(Path(name))]
    foreign = [name for name in sources if name.lower().endswith(_WEIGHTS_SUFFIXES)]
    if foreign:
        raise UsageError(
            f"{foreign[0]} is neither a video nor a checkpoint of Kinema: checkpoints end in "
            ".safetensors, such as RUN/rgb/best.safetensors."
        )
    if not checkpoints:
        raise UsageError(
            "No checkpoint among the arguments: give a run folder or .safetensors files first, "
            "such as RUN/rgb/best.safetensors."
        )
    if not sources:
        raise UsageError("No video among the arguments: give a file, a folder or a pattern.")
    return checkpoints, sources


def _is_checkpoint(path: Path) -> bool:
    marks = ("run.json", "results.json", "best.safetensors")
    return path.suffix == ".safetensors" or any((path / mark).is_file() for mark in marks)
