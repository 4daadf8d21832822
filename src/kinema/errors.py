"""The two exceptions that users see: one clear sentence each, no traceback on the command line."""

import difflib
from collections.abc import Iterable


class KinemaError(Exception):
    """The work cannot be done with what was given (exit code 1).

    The message names the thing, the value given, what is allowed and what to do.
    """


class UsageError(KinemaError):
    """The request itself is wrong: an unknown option, name or override (exit code 2)."""


def did_you_mean(name: str, allowed: Iterable[str], *, prefix: str = "") -> str:
    """Return `` Did you mean 'x'?`` for the closest allowed name, or an empty string.

    `prefix` is what stands before both names, and is shown.
    """
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean '{prefix}{close[0]}'?" if close else ""
