"""What a network sees of an image. Without NumPy: recipes and backbones name crops before anything is read."""

from typing import NamedTuple


class Crop(NamedTuple):
    """What a network sees of an image: its central part, resized to a square. Crops are ordered by size.

    Attributes
    ----------
    size_px : int
        Side of the resized square.
    centre : float in (0, 1]
        Side of the central square as a share of the frame's shorter side; 1 is the whole frame.
    """

    size_px: int
    centre: float = 1.0

    def __str__(self) -> str:
        return f"{self.size_px} px" + (f" of the central {self.centre:g}" if self.centre < 1 else "")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the pixel array: (size_px, size_px, 3)."""
        return self.size_px, self.size_px, 3
