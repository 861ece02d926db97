"""The metrics against closed forms, SciPy, and brute force."""
import numpy as np
import pytest
from scipy import stats

from guidance import metrics
from guidance.mixtures import GaussianMixture

RNG = np.random.default_rng


def test_mean_interval_is_students_and_covers():
    values = RNG(0).normal(2, 3, 12)
    mean, low, high = metrics.mean_interval(values, 0.9)
    assert (low, high) == pytest.approx(stats.t.interval(0.9, 11, values.mean(), stats.sem(values)))
    draws = RNG(1).normal(0, 1, (2000, 5))
    covered = [low <= 0 <= high for _, low, high in map(metrics.mean_interval, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_confidence_and_its_inverse():
    p, x = GaussianMixture(np.array([[1.0], [-1.0]])), np.array([[0.3], [-20.0]])
    assert metrics.confidence(p, x, 0) == pytest.approx(1 / (1 + np.exp(-2 * x[:, 0])))
    assert metrics.inverse_confidence(p, x, 0) == pytest.approx(1 + np.exp(-2 * x[:, 0]), rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_entropy_knn_of_a_gaussian_and_under_scaling(d):
    x = RNG(d).standard_normal((8000, d))
    estimate = metrics.entropy_knn(x)
    assert estimate == pytest.approx(d / 2 * np.log(2 * np.pi * np.e), abs=0.05)
    assert metrics.entropy_knn(3 * x + 1) == pytest.approx(estimate + d * np.log(3))


@pytest.mark.parametrize("n, m", [(50, 50), (30, 47), (1, 5)])
def test_wasserstein_on_a_line(n, m):
    x, y = RNG(0).normal(0, 1, n), RNG(1).normal(1, 2, m)
    assert metrics.wasserstein(x, y) == pytest.approx(stats.wasserstein_distance(x, y))
    copies = np.sort(np.repeat(x, m)) - np.sort(np.repeat(y, n))
    assert metrics.wasserstein(x[:, None], y, order=2) == pytest.approx(np.sqrt(np.mean(copies**2)))


def test_sliced_wasserstein_of_a_shift():
    x, shift = RNG(0).standard_normal((400, 3)), np.array([3.0, 0.0, 0.0])
    assert metrics.sliced_wasserstein(x, x + shift, RNG(1), directions=4000) == pytest.approx(np.sqrt(9 / 3), rel=0.03)
    assert metrics.sliced_wasserstein(x, x[::-1].copy(), RNG(1)) == 0


def test_kolmogorov_smirnov_is_scipys():
    x = RNG(0).normal(0.2, 1, 60)
    assert metrics.kolmogorov_smirnov(x, stats.norm.cdf) == pytest.approx(stats.kstest(x, "norm").statistic)


def test_support():
    x = np.array([[0.5, 0.5], [1.5, 0.5], [5.0, 0.0], [2.0, 1.0]])
    assert metrics.outside_share(x, np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0], [2.0, 1.0]])) == 0.25
    points = np.array([[3.0, 4.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert metrics.off_support_ratio(points, np.array([[2.0], [0.0]])) == pytest.approx([4 / 3, 0, np.inf, 0])


def test_bad_input_names_the_argument():
    x = np.zeros((4, 2))
    for call, error, message in (
        (lambda: metrics.mean_interval(np.array([1, 2])), TypeError, "values must be floating"),
        (lambda: metrics.mean_interval(np.array([1.0])), ValueError, "values must be"),
        (lambda: metrics.mean_interval(np.array([1.0, np.nan])), ValueError, "values holds 1 NaN"),
        (lambda: metrics.mean_interval(np.array([1.0, 2.0]), 95), ValueError, "level"),
        (lambda: metrics.entropy_knn(x), ValueError, "k must be"),
        (lambda: metrics.entropy_knn(np.zeros((9, 2))), ValueError, "equal points"),
        (lambda: metrics.wasserstein(x, x), ValueError, "x must be"),
        (lambda: metrics.wasserstein(np.ones(2), np.ones(2), order=3), ValueError, "order"),
        (lambda: metrics.sliced_wasserstein(x, np.zeros((4, 3)), RNG(0)), ValueError, "same number of columns"),
        (lambda: metrics.sliced_wasserstein(x, x, 0), TypeError, "rng"),
        (lambda: metrics.kolmogorov_smirnov(np.ones(3), lambda x: x + 1), ValueError, "cdf"),
        (lambda: metrics.outside_share(x, np.ones(2), np.zeros(2)), ValueError, "lows"),
        (lambda: metrics.off_support_ratio(x, np.zeros((3, 1))), ValueError, "basis"),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("shift", [-0.4, 0.4])
def test_kolmogorov_smirnov_sees_an_excess_on_either_side(shift):
    x = RNG(2).normal(shift, 1, 60)
    above, below = (stats.kstest(x, "norm", alternative=side).statistic for side in ("greater", "less"))
    assert max(above, below) > 2 * min(above, below)
    assert metrics.kolmogorov_smirnov(x, stats.norm.cdf) == pytest.approx(max(above, below))


def test_entropy_knn_uses_five_neighbours_unless_told_otherwise():
    x = RNG(3).standard_normal((50, 2))
    assert metrics.entropy_knn(x) == metrics.entropy_knn(x, k=5) != metrics.entropy_knn(x, k=4)


def test_off_support_ratio_of_a_basis_with_repeated_directions():
    points, basis = np.array([[3.0, 4.0], [2.0, 0.0]]), np.array([[1.0, 2.0], [0.0, 0.0]])
    assert metrics.off_support_ratio(points, basis) == pytest.approx([4 / 3, 0])


def test_input_of_the_wrong_shape_or_size_is_refused_by_name():
    x = np.zeros((4, 2))
    for call, message in (
        (lambda: metrics.mean_interval(np.array([1.0, 2.0]), -0.5), "level"),
        (lambda: metrics.mean_interval(np.array([1.0, np.inf])), "values holds 1 NaN or infinite"),
        (lambda: metrics.entropy_knn(x, k=4), "k must be"),
        (lambda: metrics.entropy_knn(x, k=1.5), "k must be"),
        (lambda: metrics.sliced_wasserstein(x, x, RNG(0), directions=0), "directions"),
        (lambda: metrics.sliced_wasserstein(x, x, RNG(0), directions=2.5), "directions"),
        (lambda: metrics.kolmogorov_smirnov(np.ones(3), lambda x: 0.5), "cdf"),
        (lambda: metrics.outside_share(x, np.zeros(1), np.ones(1)), "lows"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# --- trajectories and the choice of w ---


def test_mean_path_projects_and_averages():
    way = RNG(0).normal(0, 1, (5, 30, 2)) + np.linspace(0, 4, 5)[:, None, None]
    mean, band = metrics.mean_path(way, np.array([3.0, 4.0]), origin=np.array([1.0, 0.0]))
    along = 0.6 * (way[..., 0] - 1) + 0.8 * way[..., 1]
    assert mean == pytest.approx(along.mean(1)) and band == pytest.approx(along.std(1))
    sweep = np.stack([way, way + 1], axis=1)  # (5, 2, 30, 2)
    means, bands = metrics.mean_path(sweep, np.array([3.0, 4.0]))
    assert means.shape == bands.shape == (2, 5)
    assert means[1] == pytest.approx(means[0] + 1.4) and means[0] == pytest.approx(mean + 0.6)


def test_reversal_is_the_largest_step_back_between_any_two_times():
    path = np.array([0.0, 1.0, 0.7, 2.0, 1.8, 1.4, 1.9])
    assert metrics.reversal(path) == pytest.approx(0.6)
    assert metrics.reversal(-path) == pytest.approx(0.6)
    assert metrics.reversal(path[::-1].copy()) == pytest.approx(0.6)
    assert metrics.reversal(np.array([0.0, 1.0, 1.0, 3.0])) == 0
    assert metrics.reversal(np.array([0.0, 1.0, -2.0, 0.0])) == pytest.approx(2)  # closed: rise 2 < fall 3
    paths = RNG(1).normal(0, 1, (6, 12)).cumsum(1)
    for value, row in zip(metrics.reversal(paths), paths):
        row = row if row[-1] > row[0] else -row
        assert value == pytest.approx(max(row[i] - row[j] for i in range(12) for j in range(i, 12)))


def test_the_monotone_rule_on_peaks_of_known_height():
    """Paths that overshoot by w / 10 and come back, in a shuffled order."""
    strengths = np.array([3.0, 0.5, 7.0, 1.0])
    paths = np.array([[0.0, 0.5, 1 + w / 10, 1.0] for w in strengths])
    largest = metrics.largest_monotone_strength
    assert [largest(strengths, paths, tolerance) for tolerance in (0.04, 0.051, 0.2, 0.31, 1.0)] == [None, 0.5, 1.0, 3.0, 7.0]
    assert largest(strengths, 5 - paths, 0.31) == 3.0
    paths[0, 2] = 3.0  # w = 3 fails: 7 is not taken although it passes
    assert largest(strengths, paths, 0.71) == 1.0


def test_the_support_rule():
    strengths = np.array([0, 1, 3, 7])
    assert metrics.largest_inside_strength(strengths, np.array([0.0, 0.01, 0.05, 0.3]), 0.05) == 3.0
    assert metrics.largest_inside_strength(strengths, np.array([0.0, 0.2, 0.05, 0.3]), 0.05) == 0.0
    assert metrics.largest_inside_strength(strengths, np.full(4, 0.2), 0.05) is None


def test_rules_refuse_bad_input_by_name():
    way, w, paths = np.zeros((3, 4, 2)), np.array([0.0, 1.0]), np.zeros((2, 3))
    for call, message in (
        (lambda: metrics.mean_path(way[0], np.ones(2)), "trajectory"),
        (lambda: metrics.mean_path(way + np.nan, np.ones(2)), "trajectory"),
        (lambda: metrics.mean_path(way, np.zeros(2)), "direction"),
        (lambda: metrics.mean_path(way, np.ones(3)), "direction"),
        (lambda: metrics.mean_path(way, np.ones(2), np.ones(1)), "origin"),
        (lambda: metrics.reversal(np.zeros(1)), "path"),
        (lambda: metrics.reversal(np.array([0.0, np.inf])), "path"),
        (lambda: metrics.largest_monotone_strength(w, paths[0], 0.1), "paths"),
        (lambda: metrics.largest_monotone_strength(w[:1], paths, 0.1), "strengths"),
        (lambda: metrics.largest_monotone_strength(np.zeros(2), paths, 0.1), "strengths"),
        (lambda: metrics.largest_monotone_strength(w, paths, -0.1), "tolerance"),
        (lambda: metrics.largest_inside_strength(w, np.array([0.0, 1.5]), 0.1), "outside_shares"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
