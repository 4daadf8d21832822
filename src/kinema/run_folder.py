"""What the folder of a run remembers from one start to the next: settings, seconds, results."""

import json
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError
from kinema.files import read_json, write_json

_SETTINGS = "run.json"


class Clock:
    """Seconds per step, kept over interruptions; stopped where a finished run is looked at."""

    def __init__(self, path: Path, *, stopped: bool) -> None:
        self._path, self._stopped = path, stopped
        self.seconds: dict[str, float] = read_json(path) if path.exists() else {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of a ``with`` block to the step `name`."""
        started = time.monotonic()
        try:
            yield
        finally:
            if not self._stopped and self._path.parent.is_dir():
                spent = time.monotonic() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + spent
                write_json(self._path, self.seconds)


def has_settings(out: Path) -> bool:
    """Tell whether a run was begun in `out`."""
    return (out / _SETTINGS).exists()


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Note what the run in `out` was asked to do."""
    write_json(out / _SETTINGS, settings)


def same_settings(out: Path, settings: dict[str, Any], *, fixed: Collection[str]) -> bool:
    """Tell whether a run which was begun in `out` had the same settings.

    Args:
        out: folder of the run.
        settings: what is asked for now.
        fixed: names of the settings that cannot change any more.

    Raises:
        KinemaError: one of `fixed` differs.
    """
    if not has_settings(out):
        return False
    before = read_json(out / _SETTINGS)
    wanted = json.loads(json.dumps(settings))
    old = _flat({name: before.get(name) for name in fixed})
    for name, value in _flat({name: wanted[name] for name in fixed}).items():
        if old.get(name, value) != value:
            raise KinemaError(
                f"{out} holds a run with {name}={_text(old[name])} instead of {_text(value)}: "
                "choose another --out, or the same options to go on with it."
            )
    return bool(before == wanted)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _text(value: object) -> str:
    return (",".join(map(str, value)) if isinstance(value, list) else str(value)) or "(none)"


def finished_results(out: Path) -> dict[str, Any]:
    """Return the results of a run that came to its end before, or an empty dictionary."""
    path = out / "results.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def own_command() -> str:
    """Return the command line that this is the work of; empty where it was called from Python."""
    program = Path(sys.argv[0])
    is_command = program.stem == "kinema" or program.parts[-2:] == ("kinema", "__main__.py")
    return shlex.join(["kinema", *sys.argv[1:]]) if is_command else ""


def command_line(verb: str, *words: object, options: Mapping[str, object]) -> str:
    """Write a command; options without a value are left out."""
    for name, value in options.items():
        if value != "":
            words += (f"--{name.replace('_', '-')}", value)
    return shlex.join(["kinema", verb, *map(str, words)])


def peak_memory_bytes() -> int:
    """Return the size of the largest process of this run so far; 0 where it is not known."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(who).ru_maxrss for who in whose)
