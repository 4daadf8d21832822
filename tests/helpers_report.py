"""A run folder with made-up but plausible figures, for the tests of the report."""

import json
from pathlib import Path

import cv2
import numpy as np

from kinema.config import Config, DataConfig, to_dict
from kinema.datasets.index import Index, Video, write_index
from kinema.fusion import fuse, gain_per_class
from kinema.metrics import summary
from kinema.scores import Scores, save_scores

WORDS = ("Apply", "Archery", "Balance", "Baseball", "Bench", "Biking", "Blowing", "Boxing", "Cliff")


def class_names(count: int) -> list[str]:
    return [f"{WORDS[k % 9]}{WORDS[(k * 5 + 2) % 9]}{k:03d}" for k in range(count)]


def make_scores(classes: list[str], *, per_class: int, strength: float, seed: int) -> Scores:
    """Logits that are right more often with more `strength`; neighbours are confused."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), per_class)
    values = rng.normal(0, 1, (len(labels), len(classes)))
    rows = np.arange(len(labels))
    values[rows, labels] += strength * rng.uniform(0.6, 1.4, len(labels))
    values[rows, (labels + 1) % len(classes)] += rng.uniform(0, 2.5, len(labels))
    return Scores(
        ids=tuple(f"{classes[label]}/v{row:04d}" for row, label in enumerate(labels)),
        values=values.astype(np.float32),
        kind="logits",
        labels=labels.astype(np.int64),
        classes=tuple(classes),
        protocol="uniform-19",
        checkpoint="0" * 64,
        clip_top1=0.61,
    )


def metric_lines(*, epochs: int, level: float, seed: int, validation: bool) -> list[dict]:
    rng = np.random.default_rng(seed)
    lines = []
    for epoch in range(epochs):
        progress = 1 - np.exp(-3 * epoch / epochs)
        line = {"epoch": epoch, "step": 12 * (epoch + 1), "lr": 0.01 * (1 - epoch / epochs)}
        line |= {"train_loss": 2.3 * (1 - progress) + 0.1 + 0.1 * rng.random()}
        line |= {"train_top1": progress * min(1.0, level + 0.05)}
        if validation:
            line |= {"val_loss": 2.3 * (1 - 0.9 * progress) + 0.3 + 0.2 * rng.random()}
            line |= {"val_top1": progress * level + 0.03 * rng.random()}
        lines.append({**line, "seconds": 12.5, "clips_per_second": 31.2, "data_wait": 0.04})
    return lines


def make_run(
    folder: Path,
    *,
    classes: list[str],
    streams: tuple[str, ...] = ("rgb", "flow"),
    per_class: int = 12,
    validation: bool = True,
    videos: bool = True,
) -> dict:
    """Fill `folder` as `kinema run` does and return what results.json holds."""
    strengths = {"rgb": 3.2, "flow": 4.2, "rgbdiff": 3.6}
    scores = {
        name: make_scores(classes, per_class=per_class, strength=strengths[name], seed=number)
        for number, name in enumerate(streams)
    }
    results = {
        "kinema": "0.1.0",
        "python": "3.11.2",
        "command": "kinema run clips --out run",
        "commands": ["kinema index clips -o run/index", "kinema train run/index --modality rgb"],
        "classes": classes,
        "videos": {"train": 40 * len(classes), "val": 9, "test": per_class * len(classes)},
        "streams": {},
        "seconds": {"index": 3.2, "flow": 95.4, "train rgb": 402.0, "train flow": 388.0},
        "peak_memory_bytes": 2_345_678_901,
        "config": {},
    }
    for number, (name, found) in enumerate(scores.items()):
        save_scores(found, folder / name / "scores" / "test.npz")
        lines = metric_lines(epochs=30, level=0.8, seed=number, validation=validation)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / name / "metrics.jsonl").write_text(text)
        results["streams"][name] = {
            "checkpoint": f"{name}/best.safetensors",
            "scores": f"{name}/scores/test.npz",
            "metrics": summary(found),
        }
        results["config"][name] = to_dict(Config(recipe="scratch", data=DataConfig(index="i")))
    if len(streams) > 1:
        fused = fuse(list(scores.values()), rule="softmax", weights=[1.0] * len(streams))
        save_scores(fused, folder / "scores" / "fused.npz")
        results["fusion"] = {
            "rule": "softmax",
            "weights": dict.fromkeys(streams, 1.0),
            "scores": "scores/fused.npz",
            "metrics": summary(fused),
            "gain_per_class": gain_per_class(fused, list(scores.values())),
        }
    _write_index(folder, scores[streams[0]], videos=videos)
    (folder / "results.json").write_text(json.dumps(results))
    return results


def _write_index(folder: Path, scores: Scores, *, videos: bool) -> None:
    """Write the index; each "video" is a folder with one picture."""
    rows = []
    for number, (name, label) in enumerate(zip(scores.ids, scores.labels, strict=True)):
        path = folder / "clips" / f"{number:04d}"
        rows.append(
            Video(
                id=name,
                path=path,
                label=scores.classes[label],
                split="test",
                num_frames=1,
                fps=25,
                width=160,
                height=120,
                keyframe_interval=1,
            )
        )
        if videos:
            path.mkdir(parents=True)
            rng = np.random.default_rng(number)
            picture = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (160, 120))
            cv2.imwrite(str(path / "img_00001.jpg"), picture)
    write_index(Index(videos=tuple(rows), classes=scores.classes), folder / "index")
