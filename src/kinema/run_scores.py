"""Scores of a run's networks, made only where they are absent or no longer true."""

from collections.abc import Sequence
from pathlib import Path

from kinema.console import say
from kinema.engine.checkpoint import weights_hash
from kinema.engine.protocols import PROTOCOLS
from kinema.errors import KinemaError
from kinema.scores import Scores, load_scores
from kinema.testing import Part, TestOptions, score_checkpoint


def current_scores(
    checkpoint: Path,
    path: Path,
    *,
    part: Part,
    ids: Sequence[str],
    protocol: str,
    options: TestOptions,
    name: str,
) -> Scores:
    """Return the scores of a part; those of `path` where they are of these videos and weights.

    Args:
        checkpoint: of the network.
        path: the score file.
        part: of the index.
        ids: the videos of the part.
        protocol: by which the network is tested; one of the user's own may have changed under its
            name, so its scores are made again.
        options: of the test.
        name: of the network, for the line that says what is done.
    """
    kept = _kept(path)
    wanted = (tuple(ids), weights_hash(checkpoint), protocol)
    if kept and protocol in PROTOCOLS and (kept.ids, kept.checkpoint, kept.protocol) == wanted:
        return kept
    say(f"Scoring the {part} part with {name}.")
    return score_checkpoint(checkpoint, path, part=part, options=options)


def _kept(path: Path) -> Scores | None:
    try:
        return load_scores(path)
    except KinemaError:
        return None
