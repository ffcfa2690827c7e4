"""A verdict and its numbers in words."""

from natmirror.openflow.comparison.shown import Verdict

WORDS: dict[str, str] = {Verdict.AGREES: "AGREES", Verdict.DIFFERS: "DIFFERS", Verdict.TOO_LITTLE: "TOO LITTLE"}


def share(part: float, of: float) -> str:
    """Return a share as text, never rounded up to 100 % or down to 0."""
    if part in (0, of):
        return "100 %" if part else "0 %"
    texts = [f"{100 * part / of:.{digits}f}" for digits in (1, 2, 3, 4)]
    return next((text for text in texts if 0 < float(text) < 100), texts[-1]) + " %"


def times(count: int) -> str:
    """Return how often something happened."""
    return "once" if count == 1 else f"{count} times"


def duration(seconds: float) -> str:
    """Return a time as text, with two or three digits."""
    size = abs(seconds)
    return f"{1000 * seconds:.1f} ms" if size < 0.01 else f"{1000 * seconds:.0f} ms" if size < 1 else f"{seconds:.1f} s"
