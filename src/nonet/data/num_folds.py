"""How many folds are possible. Without scikit-learn, which makes them: a wrong number is an error at once."""

from nonet.errors import DataError

MAX_NUM_FOLDS = 1000  # as a recipe allows


def require_num_folds(num_folds: int | None) -> None:
    """Raise DataError if a number of folds is not from 2 to 1,000; None stands for the recipes' default."""
    if num_folds is not None and not 2 <= num_folds <= MAX_NUM_FOLDS:
        raise DataError(f"{num_folds} folds are not possible.", hint=f"At least 2, at most {MAX_NUM_FOLDS:,}.")
