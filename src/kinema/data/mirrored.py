"""Whether clips may be mirrored, and what a mirror does to their labels."""

import re
from collections.abc import Sequence

from kinema.config import AugmentConfig
from kinema.data.augment import parse_mirror_labels

# Words of their own ("swipe_left", "SwipeLeft"), not parts of others ("upright", "leftover").
_SIDE = re.compile(r"(?:(?<![A-Za-z])(?:left|right|LEFT|RIGHT)|Left|Right)(?![a-z])")


def mirror_rule(config: AugmentConfig, classes: Sequence[str]) -> tuple[bool, dict[int, int], str]:
    """Return whether clips are mirrored, the labels that change with it, and a line for the user.

    `config.mirror_labels` is one of

    - empty: mirrored, unless the class names tell left from right;
    - ``auto``: classes whose names differ only in left and right are exchanged; not mirrored if
      one of them has no counterpart;
    - ``keep``: labels stay as they are, whatever the classes are called;
    - pairs: see `kinema.data.augment.parse_mirror_labels`.

    Raises:
        UsageError: pairs that cannot be read, or an unknown class in them.
    """
    text = config.mirror_labels
    if not config.mirror or text == "keep":
        return config.mirror, {}, ""
    if text not in ("", "auto"):
        return True, parse_mirror_labels(text, classes), ""
    sided = {i: _exchanged(name) for i, name in enumerate(classes) if _SIDE.search(name)}
    if not sided:
        return True, {}, ""
    example = classes[next(iter(sided))]
    if text == "auto":
        ids = {name: i for i, name in enumerate(classes)}
        without = [i for i, other in sided.items() if other not in ids]
        if not without:
            exchanged = {i: ids[other] for i, other in sided.items() if ids[other] != i}
            return True, exchanged, f"Mirrored clips exchange {len(exchanged)} left/right classes."
        lonely = classes[without[0]]
        return (
            False,
            {},
            f"Clips are not mirrored: '{lonely}' has no counterpart among the classes.",
        )
    return (
        False,
        {},
        f"Clips are not mirrored, because classes such as '{example}' tell left from right: "
        "augment.mirror_labels=auto exchanges them, keep mirrors all the same.",
    )


def _exchanged(name: str) -> str:
    """Return a name with left and right exchanged, in the case that they had."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        found = "right" if word.lower() == "left" else "left"
        if word.isupper():
            return found.upper()
        return found.capitalize() if word[0].isupper() else found

    return _SIDE.sub(other, name)
