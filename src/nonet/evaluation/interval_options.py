"""The options of intervals, checked without NumPy: commands do so before they import it."""

from nonet.errors import DataError


def require_confidence(confidence: float) -> None:
    """Raise DataError if the confidence of intervals is out of range."""
    if not 0 < confidence < 1:
        raise DataError(
            f"The intervals' confidence is {confidence}; it must lie between 0 and 1.", hint="0.95 is usual."
        )


def require_interval_options(num_resamples: int, confidence: float) -> None:
    """Raise DataError if the number of a bootstrap's resamples, or the confidence of intervals, is out of range."""
    if num_resamples < 1:
        raise DataError(
            f"The bootstrap's number of resamples is {num_resamples}; it must be at least 1.",
            hint="2000 give steady 95 % intervals.",
        )
    require_confidence(confidence)
