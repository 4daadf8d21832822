"""RAR archives: no Python package reads them, an installed program does."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kinema.datasets.archives import DamagedArchiveError, safe_name
from kinema.errors import KinemaError


@dataclass(frozen=True)
class _Program:
    name: str
    list_names: Callable[[str], list[str]]
    extract: Callable[[str, str], list[str]]


_PROGRAMS = (
    _Program("bsdtar", lambda a: ["-tf", a], lambda a, d: ["-xf", a, "-C", d]),
    _Program("unrar", lambda a: ["lb", "-p-", a], lambda a, d: ["x", "-idq", "-p-", "-y", a, d]),
    *(
        _Program(
            name,
            lambda a: ["l", "-ba", "-slt", "-p-", a],
            lambda a, d: ["x", "-y", "-bd", "-p-", f"-o{d}", a],
        )
        for name in ("7zz", "7z")
    ),
)


def check_rar_program(archive: str) -> None:
    """Make sure that a program for RAR archives is there.

    Raises:
        KinemaError: none is; names what to install.
    """
    if not _installed():
        raise KinemaError(
            f"{archive} is a RAR archive, and no program that unpacks these is installed. Install "
            "bsdtar (Debian, Ubuntu: `apt install libarchive-tools`; Fedora: `dnf install "
            "bsdtar`), unrar (`apt install unrar`, `brew install rar`) or 7z (`apt install 7zip "
            "7zip-rar`), then run the same command again."
        )


def unpack_rar(archive: Path, folder: Path) -> None:
    """Unpack a RAR archive into a folder that exists, with the first program that can.

    Raises:
        KinemaError: no program is installed, all fail (the archive is cut short or damaged, or of
            a kind that they do not know), or a name would leave the folder.
    """
    check_rar_program(archive.name)
    reasons = []
    for program, path in _installed():
        listed = _run([path, *program.list_names(str(archive.absolute()))])
        if listed.returncode == 0:
            for name in _names(listed.stdout):
                safe_name(name, archive.name)
            done = _run([path, *program.extract(str(archive.absolute()), f"{folder}{os.sep}")])
            if done.returncode == 0:
                _refuse_links(archive, folder)
                return
            listed = done
        words = (listed.stderr or listed.stdout).strip().splitlines()
        reasons.append(f"{program.name}: {words[-1].strip() if words else listed.returncode}")
    raise DamagedArchiveError(
        f"{archive.name} is cut short or damaged, or of a newer kind than the programs here know "
        f"({'; '.join(reasons)}): nothing of it was unpacked."
    )


def _installed() -> list[tuple[_Program, str]]:
    found = ((program, shutil.which(program.name)) for program in _PROGRAMS)
    return [(program, path) for program, path in found if path]


def _run(words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words,
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )


def _names(listing: str) -> list[str]:
    """Return the names in a listing: one per line, or the `Path = NAME` lines of 7z."""
    lines = listing.splitlines()
    paths = [line.removeprefix("Path = ") for line in lines if line.startswith("Path = ")]
    return paths or lines


def _refuse_links(archive: Path, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise KinemaError(
                f"{archive.name} holds '{path.relative_to(folder)}', which is a link and no file: "
                "nothing of this archive was unpacked. Do not use it."
            )
