"""The names of layouts that are read and of list formats that are written; light to import."""

from typing import Literal

DatasetName = Literal[
    "auto",
    "folder",
    "csv",
    "ucf101",
    "hmdb51",
    "kinetics",
    "something-v1",
    "something-v2",
    "jester",
    "moments",
    "diving48",
    "activitynet",
    "charades",
    "tsn",
    "two-column",
    "slim",
    "mmaction2",
]
ListFormat = Literal[
    "tsn",
    "two-column",
    "slim",
    "mmaction2",
    "activitynet",
    "hara",
    "ucf101",
    "hmdb51",
    "kinetics",
    "frame-count",
]
