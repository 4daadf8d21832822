"""Where the public data sets are: addresses, mirrors, hashes and terms, as their pages give them.

Sources: UCF101 https://www.crcv.ucf.edu/data/UCF101.php, hashes of its lists and of the zip of its
videos as TensorFlow Datasets records them; HMDB51 https://serre-lab.clps.brown.edu/resource/
hmdb-a-large-human-motion-database/, hash of its lists as torchvision records it; Kinetics
https://github.com/cvdfoundation/kinetics-dataset; Something-Something
https://www.qualcomm.com/developer/software/something-something-v-2-dataset.
"""

from dataclasses import dataclass

from kinema.errors import UsageError, did_you_mean

_UCF = "www.crcv.ucf.edu/data/UCF101"
_SERRE = "serre-lab.clps.brown.edu/wp-content/uploads/2013/10"
_LISTS_SHA256 = "5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27"
_UCF_ZIP_SHA256 = "dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d"
_HMDB_LISTS_MD5 = "15e67781e70dcfbdce2d7dbb9b3344b5"
_S3 = "https://s3.amazonaws.com/kinetics"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a data set."""

    addresses: tuple[str, ...]  # mirrors in turn, each with a hash at its end where one is known
    folder: str = ""  # where it is unpacked or put, below the data set's folder
    unpack: bool = True
    flat: bool = False  # the archive's own folders are left out
    nested: bool = False  # archives in it are unpacked too
    last: bool = False  # after all others, whose files it replaces


@dataclass(frozen=True, kw_only=True)
class RemoteList:
    """A text file with one address of an archive per line."""

    part: str  # train, val, test; also the folder that the archives are unpacked to
    addresses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """What only a person can fetch, after agreeing to the terms."""

    page: str
    pieces: str  # regular expression of the names of the pieces, with their number as its bracket
    what: tuple[str, ...]  # names of files, in words
    labels: tuple[str, ...]  # patterns of which one must match a file, or a zip that is unpacked


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A public data set and where it is fetched from."""

    name: str
    title: str
    page: str
    terms: str
    gigabytes: float  # about, of the archives; 0: it is not known
    videos: str  # pattern of the unpacked videos, or folders of frames
    count: int = 0  # how many there are; 0: it is not known
    files: tuple[RemoteFile, ...] = ()
    lists: tuple[RemoteList, ...] = ()
    by_hand: ByHand | None = None


def data_set(name: str) -> DataSet:
    """Return the data set of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in DATA_SETS:
        raise UsageError(
            f"There is no data set '{name}' to download: choose one of {', '.join(DATA_SETS)}."
            f"{did_you_mean(name, DATA_SETS)}"
        )
    return DATA_SETS[name]


def _ucf101() -> DataSet:
    lists = "UCF101TrainTestSplits-RecognitionTask.zip"
    return DataSet(
        name="ucf101",
        title="UCF101",
        page="https://www.crcv.ucf.edu/data/UCF101.php",
        terms="for research; cite Soomro, Zamir and Shah, CRCV-TR-12-01",
        gigabytes=7.0,
        videos="videos/**/*.avi",
        count=13320,
        files=(
            RemoteFile(  # its server's certificate is not known everywhere: the hash makes it safe
                addresses=(
                    f"https://{_UCF}/{lists}#sha256={_LISTS_SHA256}",
                    f"http://{_UCF}/{lists}#sha256={_LISTS_SHA256}",
                ),
            ),
            RemoteFile(
                addresses=(
                    "https://storage.googleapis.com/thumos14_files/UCF101_videos.zip"
                    f"#sha256={_UCF_ZIP_SHA256}",
                    f"https://{_UCF}/UCF101.rar",
                    f"http://{_UCF}/UCF101.rar",
                ),
                folder="videos",
            ),
        ),
    )


def _hmdb51() -> DataSet:
    lists = f"{_SERRE}/test_train_splits.rar#md5={_HMDB_LISTS_MD5}"
    return DataSet(
        name="hmdb51",
        title="HMDB51",
        page="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
        terms="Creative Commons Attribution 4.0; cite Kuehne et al., ICCV 2011",
        gigabytes=2.1,
        videos="videos/**/*.avi",
        count=6766,
        files=(
            RemoteFile(addresses=(f"https://{lists}", f"http://{lists}")),
            RemoteFile(
                addresses=(
                    f"https://{_SERRE}/hmdb51_org.rar",
                    f"http://{_SERRE}/hmdb51_org.rar",
                ),
                folder="videos",
                nested=True,
            ),
        ),
    )


def _kinetics(classes: int, *, gigabytes: float, annotations: tuple[str, ...]) -> DataSet:
    number = "700_2020" if classes == 700 else str(classes)
    replaced = RemoteFile(
        addresses=_both(f"{_S3}/400/replacement_for_corrupted_k400.tgz"),
        folder="train",
        flat=True,
        last=True,
    )
    tables = tuple(
        RemoteFile(
            addresses=_both(f"{_S3}/{number}/annotations/{name}"),
            folder="annotations",
            unpack=False,
        )
        for name in annotations
    )
    return DataSet(
        name=f"kinetics{classes}",
        title="Kinetics-700-2020" if classes == 700 else f"Kinetics-{classes}",
        page="https://github.com/cvdfoundation/kinetics-dataset",
        terms="annotations Creative Commons Attribution 4.0; the clips are their owners'",
        gigabytes=gigabytes,
        videos="*/**/*.mp4",
        files=(*tables, *((replaced,) if classes == 400 else ())),
        lists=tuple(
            RemoteList(
                part=part, addresses=_both(f"{_S3}/{number}/{part}/k{number}_{part}_path.txt")
            )
            for part in ("train", "val", "test")
        ),
    )


def _something(version: int, *, gigabytes: float, count: int, labels: tuple[str, ...]) -> DataSet:
    pieces = f"20bn-something-something-v{version}"
    return DataSet(
        name=f"something-v{version}",
        title=f"Something-Something V{version}",
        page="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        terms="a research licence",
        gigabytes=gigabytes,
        videos=f"{pieces}/*.webm" if version == 2 else f"{pieces}/*/",
        count=count,
        by_hand=ByHand(
            page=(
                "https://www.qualcomm.com/developer/software/something-something-v-2-dataset"
                if version == 2
                else "https://developer.qualcomm.com/software/ai-datasets/something-something"
            ),
            pieces=rf"{pieces}-(\d\d)(?:\.zip)?",
            what=(
                f"all pieces of the videos: {pieces}-00, {pieces}-01, … (or .zip of these)",
                "20bn-something-something-download-package-labels.zip (labels, train, validation, "
                "test as JSON)"
                if version == 2
                else "something-something-v1-labels.csv, -train.csv, -validation.csv, -test.csv",
            ),
            labels=labels,
        ),
    )


def _both(address: str) -> tuple[str, str]:
    """Return both names under which Amazon S3 serves a public file."""
    return address, other_s3_address(address)


def other_s3_address(address: str) -> str:
    """Return ``https://BUCKET.s3.amazonaws.com/KEY`` for ``https://s3.amazonaws.com/BUCKET/KEY``.

    Any other address is returned as it is.
    """
    start = "https://s3.amazonaws.com/"
    if not address.startswith(start):
        return address
    bucket, _, key = address.removeprefix(start).partition("/")
    return f"https://{bucket}.s3.amazonaws.com/{key}"


DATA_SETS: dict[str, DataSet] = {
    known.name: known
    for known in (
        _ucf101(),
        _hmdb51(),
        _something(
            1,
            gigabytes=25.0,
            count=108_499,
            labels=("something-something-v1-train.csv", "*labels*.zip"),
        ),
        _something(
            2,
            gigabytes=19.4,
            count=220_847,
            labels=("labels/train.json", "something-something-v2-train.json", "*labels*.zip"),
        ),
        _kinetics(400, gigabytes=467.0, annotations=("train.csv", "val.csv", "test.csv")),
        _kinetics(
            600,
            gigabytes=779.0,
            annotations=("train.txt", "train.csv", "val.txt", "val.csv", "test.csv"),
        ),
        _kinetics(700, gigabytes=0.0, annotations=("train.csv", "val.csv", "test.csv")),
    )
}
