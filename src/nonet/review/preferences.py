"""What a person chose for the page: other letters for classes."""

from collections.abc import Sequence

from nonet.review.database import Database
from nonet.review.keys import RESERVED, assign_letters
from nonet.review.records import ReviewError, translatable


class TakenLetterError(ReviewError):
    """The letter is a command of the page, or not a letter."""

    words = translatable("“{letter}” cannot be the letter of a class.")
    what_to_do = translatable("Give one letter; {reserved} are commands of the page.")


class Letters:
    """The letters of classes, of each person.

    Parameters
    ----------
    database : Database
        With a table `letters`.
    classes : sequence of str
        Of the run.
    """

    def __init__(self, database: Database, classes: Sequence[str]):
        self._database = database
        self.default = assign_letters(classes)

    def of(self, who: str) -> dict[str, str]:
        """Return label → letter, in the order in which labels are offered."""
        with self._database.connect() as connection:
            chosen = dict(connection.execute("SELECT label, letter FROM letters WHERE who = ?", (who,)).fetchall())
        return self.default | {label: letter for label, letter in chosen.items() if label in self.default}

    def change(self, who: str, label: str, letter: str) -> dict[str, str]:
        """Give a label another letter; a label that has it already gets the first one's.

        Parameters
        ----------
        who, label, letter : str

        Returns
        -------
        dict of str to str
            As `of` returns it.

        Raises
        ------
        TakenLetterError
            If it is not a letter, or is a command of the page.
        """
        letter = letter.lower()
        if len(letter) != 1 or not letter.isalpha() or letter in RESERVED:
            raise TakenLetterError(letter=letter, reserved=", ".join(sorted(RESERVED)).upper())
        letters = self.of(who)
        for other, taken in letters.items():
            if taken == letter:
                letters[other] = letters[label]
        letters[label] = letter
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM letters WHERE who = ?", (who,))
            connection.executemany(
                "INSERT INTO letters VALUES (?, ?, ?)",
                [(who, one, key) for one, key in letters.items() if key != self.default[one]],
            )
        return letters

    def reset(self, who: str) -> dict[str, str]:
        """Give every label its own letter again."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM letters WHERE who = ?", (who,))
        return dict(self.default)
