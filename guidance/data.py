"""Real data that needs no download: the handwritten digits that ship inside scikit-learn."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Digits:
    """Grey-level images as rows, split into a training and a test part.

    Attributes
    ----------
    x_train, x_test : (n, 64) float64 in [-1, 1]: -1 is paper, 1 is ink. `x.reshape(-1, *shape)` gives images.
    y_train, y_test : (n,) int64 in 0..9, the digit that was written.
    shape : (8, 8), the rows and columns of one image.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    shape: tuple[int, int] = (8, 8)


def digits(test_fraction=0.2, seed=0):
    """The 1,797 handwritten 8 x 8 digits of scikit-learn, scaled to [-1, 1], with a stratified train/test split.

    The grey levels 0..16 of the original become level / 8 - 1. Source: E. Alpaydin and C. Kaynak, *Optical Recognition of
    Handwritten Digits*, UCI Machine Learning Repository (its test part), as shipped in `sklearn.datasets.load_digits`.

    Parameters
    ----------
    test_fraction : float in (0, 1), the share of the images held out; every digit keeps its share in both parts.
    seed : int >= 0, decides which images are held out; the same seed gives the same split.

    Returns
    -------
    Digits

    Raises
    ------
    ValueError if test_fraction is outside (0, 1) or leaves either part with fewer images than there are digits.
    """
    if isinstance(test_fraction, bool) or not isinstance(test_fraction, (float, np.floating)) or not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be a float strictly between 0 and 1, such as 0.2, got {test_fraction!r}")
    # Imported here so that `import guidance` never pays for scikit-learn.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    levels, labels = load_digits(return_X_y=True)
    classes, n = len(np.unique(labels)), len(labels)
    if not classes <= test_fraction * n <= n - classes:
        raise ValueError(
            f"test_fraction = {test_fraction!r} leaves fewer than {classes} of the {n} images on one side, "
            f"too few for one of each digit: use a value between {classes / n:.3f} and {1 - classes / n:.3f}"
        )
    x_train, x_test, y_train, y_test = train_test_split(
        levels / 8 - 1, labels.astype(np.int64), test_size=float(test_fraction), random_state=seed, stratify=labels
    )
    return Digits(x_train, y_train, x_test, y_test)
