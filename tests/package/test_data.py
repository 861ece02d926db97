"""The handwritten digits: the real ones, scaled, split fairly and reproducibly."""
import subprocess
import sys

import numpy as np
import pytest

from guidance import data


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def test_every_image_of_scikit_learn_appears_once(digits):
    from sklearn.datasets import load_digits

    original = load_digits(return_X_y=True)
    ours = np.concatenate([digits.x_train, digits.x_test]), np.concatenate([digits.y_train, digits.y_test])
    table = [np.column_stack([x, y]) for x, y in ((original[0] / 8 - 1, original[1]), ours)]  # (1797, 65) each
    first, second = (rows[np.lexsort(rows.T)] for rows in table)
    np.testing.assert_array_equal(first, second)


def test_shapes_types_and_range(digits):
    assert digits.x_train.shape == (1437, 64) and digits.x_test.shape == (360, 64)
    assert digits.x_train.dtype == digits.x_test.dtype == np.float64
    assert digits.y_train.shape == (1437,) and digits.y_test.dtype == np.int64
    assert digits.x_train.min() == -1 and digits.x_train.max() == 1
    assert digits.x_train.reshape(-1, *digits.shape).shape == (1437, 8, 8)


def test_the_split_keeps_the_share_of_every_digit(digits):
    share = np.bincount(digits.y_test) / (np.bincount(digits.y_test) + np.bincount(digits.y_train))
    np.testing.assert_allclose(share, 0.2, atol=0.004)


def test_the_seed_alone_decides_the_split(digits):
    np.random.seed(123)
    np.testing.assert_array_equal(data.digits().x_test, digits.x_test)
    assert not np.array_equal(data.digits(seed=1).x_test, digits.x_test)


def test_labels_belong_to_their_images(digits):
    from sklearn.neighbors import KNeighborsClassifier

    assert KNeighborsClassifier(3).fit(digits.x_train, digits.y_train).score(digits.x_test, digits.y_test) > 0.97


def test_a_field_cannot_be_replaced(digits):
    with pytest.raises(AttributeError):
        digits.x_train = digits.x_test


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, 20, np.nan, True, "0.2", None, 0.001, 0.999])
def test_a_bad_fraction_is_refused_by_name(fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        data.digits(test_fraction=fraction)


def test_importing_the_module_does_not_import_scikit_learn():
    code = "import sys, guidance.data; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
