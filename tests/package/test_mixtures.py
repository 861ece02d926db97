"""Gaussian mixtures against 40-digit arithmetic, finite differences, Monte Carlo, and bad input."""
import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance import GaussianMixture

KINDS = ["number", "shared diagonal", "shared full", "isotropic", "diagonal", "full"]


def covariances(kind, K, d, rng):
    if kind == "number":
        return 0.7
    if kind == "shared diagonal":
        return rng.uniform(0.2, 2, (1, d))
    if kind == "isotropic":
        return rng.uniform(0.2, 2, (K, 1))
    if kind == "diagonal":
        return rng.uniform(0.2, 2, (K, d))
    a = rng.standard_normal((K, d, d))
    full = a @ a.transpose(0, 2, 1) / d + 0.2 * np.eye(d)
    return full[0] if kind == "shared full" else full


def mixture(kind, K, d, seed=0, zero_weight=False, classes=2):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(K))
    if zero_weight and K > 1:
        weights[0] = 0
        weights /= weights.sum()
    return GaussianMixture(2 * rng.standard_normal((K, d)), weights, covariances(kind, K, d, rng), np.arange(K) % classes)


def exact(p, x, label=None):
    """log p(x), score, and log p(label | x) at one point, with 40 digits."""
    with mpmath.workdps(40):
        total, inside, outside, gradient = mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0), mpmath.zeros(p.d, 1)
        for weight, mean, cov, c in zip(p.weights, p.means, p.covs.matrices(p.d), p.labels):
            if weight == 0:
                continue
            cov = mpmath.matrix(cov.tolist())
            difference = mpmath.matrix([mpmath.mpf(float(a)) - mpmath.mpf(float(b)) for a, b in zip(x, mean)])
            pull = mpmath.lu_solve(cov, difference)
            density = weight * mpmath.exp(-(difference.T * pull)[0] / 2) / mpmath.sqrt((2 * mpmath.pi) ** p.d * mpmath.det(cov))
            total += density
            inside += density if c == label else 0
            outside += density if c != label else 0
            gradient -= density * pull
        log_posterior = -mpmath.log1p(outside / inside)
        return float(mpmath.log(total)), np.array([float(g / total) for g in gradient]), float(log_posterior)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K, d", [(1, 1), (3, 1), (1, 2), (4, 2), (3, 3), (3, 7)])
@pytest.mark.parametrize("distance", [1, 50])
def test_right_to_ten_digits_against_forty_digit_arithmetic(kind, K, d, distance):
    p = mixture(kind, K, d, seed=K + 10 * d, zero_weight=K > 1)
    rng = np.random.default_rng(1)
    points = rng.standard_normal((4, d)) * distance
    for x in points:
        log_prob, score, log_posterior = exact(p, x, 1 if K > 1 else 0)
        assert p.log_prob(x[None])[0] == pytest.approx(log_prob, rel=1e-10)
        assert np.abs(p.score(x[None])[0] - score).max() <= 1e-10 * np.abs(score).max()
        assert p.log_posterior(x[None], 1 if K > 1 else 0)[0] == pytest.approx(log_posterior, rel=1e-10, abs=1e-300)
    single = p.score(points.astype(np.float32))
    assert single.dtype == np.float32
    assert np.abs(single - p.score(points.astype(np.float32).astype(float))).max() < 2e-3 * np.abs(single).max()


def test_log_posterior_keeps_its_digits_where_the_posterior_is_nearly_one():
    p = GaussianMixture([[1.0], [-1.0]])
    x = np.array([[5.0], [10.0], [40.0], [-40.0], [300.0]])
    expected = [-float(mpmath.log1p(mpmath.exp(-2 * mpmath.mpf(v)))) for v in x[:, 0]]
    assert p.log_posterior(x, 0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sigma", [0.0, 1e-3, 1.0, 80.0])
def test_finite_up_to_a_thousand_standard_deviations(kind, dtype, sigma):
    p = mixture(kind, 5, 2, zero_weight=True).noised(1.0, sigma)
    rng = np.random.default_rng(2)
    direction = rng.standard_normal((50, 2))
    spread = np.sqrt(2 + sigma**2)
    for distance in (0, 1, 15, 39, 200, 1000):
        x = (direction / np.linalg.norm(direction, axis=1, keepdims=True) * distance * spread).astype(dtype)
        for value in (p.log_prob(x), p.score(x), p.posterior(x, 1), p.log_posterior(x, 1), p.guided_score(x, 1, 30.0), p.hessian(x)):
            assert np.all(np.isfinite(value)) and value.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 8])
def test_score_hessian_and_divergence_are_derivatives(kind, d):
    p, h = mixture(kind, 4, d), 1e-5
    x = np.random.default_rng(3).standard_normal((6, d)) * 2
    steps = h * np.eye(d)
    gradient = np.stack([(p.log_prob(x + e) - p.log_prob(x - e)) / (2 * h) for e in steps], 1)
    hessian = np.stack([(p.score(x + e) - p.score(x - e)) / (2 * h) for e in steps], 1)
    assert p.score(x) == pytest.approx(gradient, rel=1e-6, abs=1e-6)
    assert p.hessian(x) == pytest.approx(hessian, rel=1e-6, abs=1e-6)
    assert p.score_divergence(x) == pytest.approx(np.trace(p.hessian(x), axis1=1, axis2=2), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_many_dimensions(kind):
    p = mixture(kind, 3, 784)
    x = p.sample(3, np.random.default_rng(0))[0]
    matrices, logs, pulls = p.covs.matrices(784), [], []
    for weight, mean, cov in zip(p.weights, p.means, matrices):
        pull = np.linalg.solve(cov, (x - mean).T).T
        logs.append(np.log(weight) - 0.5 * ((x - mean) * pull).sum(1) - 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1])
        pulls.append(-pull)
    total = np.logaddexp.reduce(logs, 0)
    score = sum(np.exp(log - total)[:, None] * pull for log, pull in zip(logs, pulls))
    assert p.log_prob(x) == pytest.approx(total, rel=1e-10)
    assert np.abs(p.score(x) - score).max() < 1e-10 * np.abs(score).max()


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_and_single_points_agree(kind):
    p = mixture(kind, 6, 3 if kind != "full" else 9)
    x = np.random.default_rng(0).standard_normal((20_011, p.d))
    whole = p.score(x)
    for i in (0, 5_000, 20_010):
        assert p.score(x[i : i + 1])[0] == pytest.approx(whole[i], rel=1e-11)
    assert p.log_prob(x)[-1] == pytest.approx(p.log_prob(x[-1:])[0], rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS), K=st.integers(1, 6), d=st.integers(1, 4), seed=st.integers(0, 10_000),
    alpha=st.floats(0.0, 1.0), sigma=st.floats(0.0, 5.0), w=st.floats(-1.0, 50.0), distance=st.floats(0.1, 100.0),
)
def test_random_mixtures(kind, K, d, seed, alpha, sigma, w, distance):
    if alpha**2 + sigma**2 < 1e-4:
        sigma = 0.01
    p = mixture(kind, K, d, seed, zero_weight=seed % 3 == 0, classes=3).noised(alpha, sigma)
    x = np.random.default_rng(seed).standard_normal((5, d)) * distance * np.sqrt(alpha**2 + sigma**2)
    label = int(p.labels[np.argmax(p.weights)])
    reference = np.array([exact(p, point, label)[1] for point in x])
    scale = np.abs(reference).max()
    assert np.abs(p.score(x) - reference).max() <= 1e-9 * scale + 1e-12
    posteriors = sum(p.posterior(x, c) for c in p.classes)
    assert posteriors == pytest.approx(np.ones(5), rel=1e-9)
    conditional, unconditional = p.given(label).score(x), p.score(x)
    guided = p.guided_score(x, label, w)
    expected = (1 + w) * conditional - w * unconditional
    assert np.abs(guided - expected).max() <= 1e-8 * (1 + w) * np.abs([conditional, unconditional]).max() + 1e-12


def test_noised_is_the_law_of_the_noised_sample():
    p, rng = mixture("full", 4, 2), np.random.default_rng(0)
    x, labels = p.sample(400_000, rng)
    noised = p.noised(0.6, 0.8)
    y = 0.6 * x + 0.8 * rng.standard_normal(x.shape)
    error = 5 * np.sqrt(np.diag(noised.cov()) / len(y))
    assert np.all(np.abs(y.mean(0) - noised.mean()) < error)
    assert np.cov(y.T) == pytest.approx(noised.cov(), abs=0.03)
    share = (labels == 1).mean()
    assert abs(share - p.prior(1)) < 5 * np.sqrt(share * (1 - share) / len(y))
    # E[p(c | y)] = p(c) under the noised law
    assert noised.posterior(y, 1).mean() == pytest.approx(p.prior(1), abs=5e-3)


def test_given_is_the_part_of_one_class():
    p = mixture("diagonal", 5, 2)
    x = np.random.default_rng(0).standard_normal((9, 2))
    joint = [np.log(p.prior(c)) + p.given(c).log_prob(x) for c in p.classes]
    assert np.logaddexp.reduce(joint, 0) == pytest.approx(p.log_prob(x), rel=1e-12)
    assert p.posterior(x, 1) == pytest.approx(np.exp(joint[1] - p.log_prob(x)), rel=1e-10)


def test_covariances_are_decomposed_once(monkeypatch):
    calls = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda a: calls.append(1) or eigh(a))
    p = mixture("full", 4, 3)
    x = np.zeros((5, 3))
    for sigma in np.linspace(0, 2, 20):
        p.noised(0.5, sigma).score(x)
        p.given(1).noised(0.5, sigma).log_prob(x)
    assert len(calls) == 1


@pytest.mark.parametrize("kind, limit", [("isotropic", 1.0), ("diagonal", 1.0), ("full", 32.0)])
@pytest.mark.parametrize("N, K, d", [(100_000, 8, 2), (10_000, 100, 64)])
def test_no_large_intermediate(kind, limit, N, K, d):
    p = mixture(kind, K, d)
    x = np.random.default_rng(0).standard_normal((N, d))
    p.score(x[:1])
    tracemalloc.start()
    out = p.score(x)
    extra = (tracemalloc.get_traced_memory()[1] - out.nbytes) / 2**20
    tracemalloc.stop()
    assert extra < limit


def test_shapes_with_more_axes_pass_through():
    p = mixture("number", 3, 2)
    x = np.random.default_rng(0).standard_normal((4, 5, 2))
    assert p.score(x).shape == (4, 5, 2) and p.log_prob(x).shape == (4, 5) and p.hessian(x).shape == (4, 5, 2, 2)
    assert p.score(np.empty((0, 2))).shape == (0, 2) and p.log_prob(np.empty((0, 2))).shape == (0,)


def test_covariance_shapes_when_the_numbers_of_components_and_dimensions_are_equal():
    means = np.array([[0.0, 0.0], [3.0, 3.0]])
    shared = np.array([[1.0, 0.3], [0.3, 2.0]])
    assert GaussianMixture(means, covs=shared).covs.matrices(2) == pytest.approx(np.array([shared, shared]))
    each = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert GaussianMixture(means, covs=each).covs.matrices(2)[1] == pytest.approx(np.diag([3.0, 4.0]))
    with pytest.raises(ValueError, match="two things|could mean"):
        GaussianMixture(means, covs=np.array([1.0, 2.0]))


def test_from_data_is_a_kernel_density_estimate():
    x = np.random.default_rng(0).standard_normal((30, 2))
    p = GaussianMixture.from_data(x, np.arange(30) % 3, bandwidth=0.2)
    assert p.K == 30 and p.prior(2) == pytest.approx(1 / 3)
    assert p.cov() == pytest.approx(np.cov(x.T, bias=True) + 0.04 * np.eye(2))


GOOD = dict(means=np.array([[0.0], [1.0]]))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: GaussianMixture(np.array([0.0, 1.0])), ValueError, "means"),
        (lambda: GaussianMixture(np.array([[0], [1]])), TypeError, "means"),
        (lambda: GaussianMixture(np.array([[np.nan], [1.0]])), ValueError, "means"),
        (lambda: GaussianMixture(**GOOD, weights=[0.5, 0.6]), ValueError, "weights"),
        (lambda: GaussianMixture(**GOOD, weights=[1.5, -0.5]), ValueError, "weights"),
        (lambda: GaussianMixture(**GOOD, weights=[1.0]), ValueError, "weights"),
        (lambda: GaussianMixture(**GOOD, covs=-1.0), ValueError, "covs"),
        (lambda: GaussianMixture(**GOOD, covs=0.0), ValueError, "covs"),
        (lambda: GaussianMixture(**GOOD, covs=np.ones((3, 3))), ValueError, "covs"),
        (lambda: GaussianMixture(np.zeros((3, 2)), covs=np.array([[1.0, 2.0], [2.0, 1.0]])), ValueError, "positive definite"),
        (lambda: GaussianMixture(np.zeros((3, 2)), covs=np.array([[1.0, 0.5], [0.0, 1.0]])), ValueError, "symmetric"),
        (lambda: GaussianMixture(**GOOD, labels=[0]), ValueError, "labels"),
        (lambda: GaussianMixture(**GOOD, labels=[0.0, 1.0]), ValueError, "labels"),
        (lambda: GaussianMixture(**GOOD).given(7), ValueError, "label 7 is unknown"),
        (lambda: GaussianMixture(**GOOD, weights=[0.0, 1.0]).given(0), ValueError, "probability zero"),
        (lambda: GaussianMixture(**GOOD).posterior(np.zeros((2, 1)), 7), ValueError, "unknown"),
        (lambda: GaussianMixture(**GOOD).score(np.zeros(2)), ValueError, "x must"),
        (lambda: GaussianMixture(**GOOD).score(np.zeros((2, 3))), ValueError, "axis of length d = 1"),
        (lambda: GaussianMixture(**GOOD).score(np.zeros((2, 1), int)), TypeError, "x must be float"),
        (lambda: GaussianMixture(**GOOD).score(np.array([[np.nan]])), ValueError, "NaN"),
        (lambda: GaussianMixture(**GOOD).log_prob(np.array([[np.inf]])), ValueError, "NaN or infinity"),
        (lambda: GaussianMixture(**GOOD).noised(1.0, -0.1), ValueError, "sigma"),
        (lambda: GaussianMixture(**GOOD).noised(np.nan, 0.1), ValueError, "alpha"),
        (lambda: GaussianMixture(**GOOD).sample(10, np.random), TypeError, "rng"),
        (lambda: GaussianMixture(**GOOD).sample(-1, np.random.default_rng(0)), ValueError, "n must"),
        (lambda: GaussianMixture.from_data(np.zeros((3, 1)), bandwidth=0.0), ValueError, "bandwidth"),
    ],
)
def test_bad_input_names_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype, sd", [(np.float32, 1e-3), (np.float64, 1e-6)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 8])
def test_narrow_components_far_from_each_other_keep_the_digits_of_the_density(dtype, sd, kind, d):
    # Two thousand or two million standard deviations apart: the products of a quadratic form would cancel.
    covs = covariances(kind, 2, d, np.random.default_rng(d)) * sd**2
    means = np.array([[1.0], [-1.0]]) * np.ones(d)
    p = GaussianMixture(means, [0.25, 0.75], covs)
    x = (means[0] + sd * np.random.default_rng(0).uniform(-2, 2, (5, d))).astype(dtype)
    difference = x.astype(float) - means[0]
    matrix = p.covs.matrices(d)[0]
    pull = np.linalg.solve(matrix / sd**2, difference.T).T / sd**2
    expected = np.log(0.25) - (difference * pull).sum(1) / 2 - np.linalg.slogdet(2 * np.pi * matrix)[1] / 2
    assert p.log_prob(x) == pytest.approx(expected, rel=1e-5 if dtype == np.float32 else 1e-9, abs=3e-3 if dtype == np.float32 else 0)
    assert np.abs(p.score(x) + pull).max() < (1e-3 if dtype == np.float32 else 1e-8) * np.abs(pull).max()


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_covariance_of_their_component(kind):
    p = mixture(kind, 3, 3, seed=4, classes=3)
    x, labels = p.sample(60_000, np.random.default_rng(0))
    for k, cov in enumerate(p.covs.matrices(3)):
        own = x[labels == k]
        assert np.cov(own.T) == pytest.approx(cov, abs=8 * np.abs(cov).max() / np.sqrt(len(own)))
        assert own.mean(0) == pytest.approx(p.means[k], abs=6 * np.sqrt(np.abs(cov).max() / len(own)))


def test_draws_and_conditional_laws_keep_the_precision_of_the_means():
    for dtype in (np.float32, np.float64):
        p = GaussianMixture(np.array([[0.0], [1.0]], dtype), labels=["left", "right"]).noised(0.5, 0.1)
        assert p.sample(3, np.random.default_rng(0))[0].dtype == dtype
        assert p.given("right").sample(3, np.random.default_rng(0))[0].dtype == dtype


def test_a_class_of_probability_zero_or_one():
    p = GaussianMixture(np.array([[0.0], [1.0], [2.0]]), [0.0, 0.4, 0.6], labels=["none", "all", "all"])
    x = np.array([[0.5], [-30.0]])
    assert p.posterior(x, "all").tolist() == [1, 1] and p.posterior(x, "none").tolist() == [0, 0]
    assert p.log_posterior(x, "all").tolist() == [0, 0] and p.log_posterior(x, "none").tolist() == [-np.inf, -np.inf]
    sweep = p.guided_score(x, "all", np.array([0.0, 5.0]))
    assert sweep == pytest.approx(np.stack([p.score(x)] * 2))
    sweep += 1  # the answer belongs to the caller
    for call in (lambda: p.given("none"), lambda: p.guided_score(x, "none", 1.0)):
        with pytest.raises(ValueError, match="'none' has probability zero"):
            call()


@pytest.mark.parametrize("kind, d", [("isotropic", 2), ("full", 2), ("isotropic", 9), ("full", 9)])
def test_guided_scores_of_single_precision_points_stay_single_for_every_form_of_the_strength(kind, d):
    p, x = mixture(kind, 4, d), np.random.default_rng(0).standard_normal((7, d))
    w = np.linspace(0, 6, 7)
    for strength in (3.0, w[:, None], np.array([0.0, 3.0])):
        single, double = p.guided_score(x.astype(np.float32), 1, strength), p.guided_score(x, 1, strength)
        assert single.dtype == np.float32 and single.shape == double.shape
        assert single == pytest.approx(double, rel=1e-3, abs=1e-3)
    each = p.guided_score(x, 1, w[:, None])
    assert each == pytest.approx(np.concatenate([p.guided_score(x[i : i + 1], 1, w[i]) for i in range(7)]), rel=1e-9)


@pytest.mark.parametrize("kind, d", [("isotropic", 2), ("full", 2), ("isotropic", 9), ("full", 9)])
@pytest.mark.parametrize("distance", [1.0, 60.0])
def test_sweeps_agree_with_single_strengths_near_and_far(kind, d, distance):
    p, w = mixture(kind, 5, d), np.array([-1.0, 0.0, 2.0, 40.0])
    x = np.random.default_rng(0).standard_normal((30, d)) * distance
    for i, slab in enumerate(p.guided_score(x, 1, w)):
        single = p.guided_score(x, 1, float(w[i]))
        expected = p.given(1).score(x) * (1 + w[i]) - w[i] * p.score(x)
        scale = (1 + abs(w[i])) * np.abs(p.score(x)).max()
        assert np.abs(slab - single).max() < 1e-12 * scale and np.abs(single - expected).max() < 1e-9 * scale


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: GaussianMixture(**GOOD, weights=[0.5, 0.505]), ValueError, "weights must be"),
        (lambda: GaussianMixture(**GOOD, weights=[0.5, np.nan]), ValueError, "weights must be finite"),
        (lambda: GaussianMixture(**GOOD, labels=[0]), ValueError, "labels"),
        (lambda: GaussianMixture(**GOOD, labels=[0.0, 1.0]), ValueError, "labels"),
        (lambda: GaussianMixture(np.zeros((2, 3)), covs=np.array([1.0, 1.0, 0.0])), ValueError, "covs must be positive"),
        (lambda: GaussianMixture(np.zeros((1, 2)), covs=np.array([[1.0, 0.5], [0.4, 1.0]])), ValueError, "symmetric"),
        (lambda: GaussianMixture(np.zeros((1, 2)), covs=np.array([[1.0, 2.0], [2.0, 1.0]])), ValueError, "positive definite"),
        (lambda: GaussianMixture(**GOOD).noised(0.0, 0.0), ValueError, "not both zero"),
        (lambda: GaussianMixture(**GOOD).noised(np.inf, 1.0), ValueError, "alpha=inf"),
        (lambda: GaussianMixture(**GOOD).noised(1.0, np.inf), ValueError, "sigma=inf"),
        (lambda: GaussianMixture(**GOOD).noised(-1.0, 1.0), ValueError, "alpha=-1.0"),
        (lambda: GaussianMixture(**GOOD).sample(2.5, np.random.default_rng(0)), ValueError, "n must be an integer"),
        (lambda: GaussianMixture(**GOOD).score(np.zeros((2, 1), np.float16)), TypeError, "float32 or float64"),
        (lambda: GaussianMixture(**GOOD).guided_score(np.zeros((2, 1)), 0, np.nan), ValueError, "w must be a finite"),
        (lambda: GaussianMixture(**GOOD).posterior(np.zeros((2, 1)), 7), ValueError, "label 7 is unknown"),
        (lambda: mixture("full", 3, 9).score(np.full((2, 9), np.nan)), ValueError, "NaN or infinity"),
        (lambda: mixture("full", 3, 9).log_prob(np.full((2, 9), np.inf)), ValueError, "NaN or infinity"),
    ],
)
def test_input_that_would_give_a_wrong_answer_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


UNIT = {
    "number": lambda K, d: 1.0, "shared diagonal": lambda K, d: np.ones((1, d)), "isotropic": lambda K, d: np.ones((K, 1)),
    "diagonal": lambda K, d: np.ones((K, d)), "shared full": lambda K, d: np.eye(d), "full": lambda K, d: np.tile(np.eye(d), (K, 1, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 6, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_density_neither_underflows_nor_overflows_on_the_way_out(kind, d, dtype):
    # Every coordinate grows at once, through the place where exponentials need a shift.
    p = GaussianMixture(np.array([[0.5], [-0.5]]) * np.ones(d), covs=UNIT[kind](2, d))
    for step in (0.0, 2.0, 4.0, 6.0, 9.0, 12.0, 16.0, 20.0, 26.0, 40.0):
        expected = -np.log(2) - d / 2 * np.log(2 * np.pi) + np.logaddexp(-d * (step - 0.5) ** 2 / 2, -d * (step + 0.5) ** 2 / 2)
        x = np.full((1, d), step, dtype)
        assert p.log_prob(x)[0] == pytest.approx(expected, rel=1e-4 if dtype == np.float32 else 1e-10)
        assert p.score(x)[0] == pytest.approx(np.full(d, 0.5 * np.tanh(0.5 * d * step) - step), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 6, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_middle_between_far_components_has_a_density(kind, d, dtype):
    covs = np.multiply(UNIT[kind](2, d), 1e-4)
    p = GaussianMixture(np.array([[1.0], [-1.0]]) * np.ones(d), covs=covs, labels=["right", "left"])
    x = np.zeros((1, d), dtype)
    assert p.log_prob(x)[0] == pytest.approx(-5000 * d - d / 2 * np.log(2 * np.pi * 1e-4), rel=1e-4 if dtype == np.float32 else 1e-11)
    assert p.posterior(x, "left")[0] == pytest.approx(0.5, abs=1e-2)
    assert p.guided_score(x, "left", 1.0)[0] == pytest.approx(np.full(d, -2e4), rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_at_a_tall_peak_does_not_overflow(kind):
    p = GaussianMixture(np.array([[1.0], [1.0 + 1e-8]]) * np.ones(64), covs=np.multiply(UNIT[kind](2, 64), 1e-12))
    x = p.means[:1].copy()
    assert p.log_prob(x)[0] == pytest.approx(-32 * np.log(2 * np.pi * 1e-12), rel=1e-3)
    assert np.all(np.isfinite(p.score(x)))


def test_full_covariances_in_many_dimensions_are_summed_over_any_number_of_components():
    # The nearest component comes late: what was summed before it must shrink, and must not be lost when it comes early.
    rng, K, d = np.random.default_rng(0), 70, 9
    a = rng.standard_normal((K, d, d))
    means = 40 * rng.standard_normal((K, d))
    p = GaussianMixture(means, rng.dirichlet(np.ones(K)), a @ a.transpose(0, 2, 1) / d + 0.2 * np.eye(d))
    x = np.concatenate([means[[0, 35, 69]] + rng.standard_normal((3, d)), 0.5 * (means[[2, 40]] + means[[69, 1]])])
    logs = np.stack([np.log(weight) + GaussianMixture(mean[None], covs=cov[None]).log_prob(x)
                     for weight, mean, cov in zip(p.weights, p.means, p.covs.matrices(d))])  # (K, n)
    scores = np.stack([GaussianMixture(mean[None], covs=cov[None]).score(x) for mean, cov in zip(p.means, p.covs.matrices(d))])
    total = np.logaddexp.reduce(logs, 0)
    expected = (np.exp(logs - total)[:, :, None] * scores).sum(0)
    assert np.ptp(logs, axis=0).min() > 1000
    assert p.log_prob(x) == pytest.approx(total, rel=1e-10)
    assert np.abs(p.score(x) - expected).max() < 1e-9 * np.abs(expected).max()


def test_every_shape_of_the_covariances_means_what_it_says():
    means, each, shared = np.zeros((2, 3)), np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    for covs, expected in (
        (2.0, [2 * np.eye(3)] * 2),
        (shared, [np.diag(shared)] * 2),
        (shared[None], [np.diag(shared)] * 2),
        (each, [np.eye(3), 2 * np.eye(3)]),
        (each[:, None], [np.eye(3), 2 * np.eye(3)]),
        (np.stack([shared, 2 * shared]), [np.diag(shared), 2 * np.diag(shared)]),
    ):
        assert np.array_equal(GaussianMixture(means, covs=covs).covs.matrices(3), expected)


def test_components_of_weight_zero_are_left_out_silently():
    p = GaussianMixture(np.array([[0.0], [1.0], [5.0]]), [0.5, 0.5, 0.0], labels=[0, 1, 1])
    q, x = GaussianMixture(np.array([[0.0], [1.0]])), np.array([[5.0], [0.2]])
    with np.errstate(all="raise"):
        assert p.log_prob(x) == pytest.approx(q.log_prob(x), rel=1e-13)
        assert p.score(x) == pytest.approx(q.score(x), rel=1e-13)
        assert p.guided_score(x, 1, 2.0) == pytest.approx(q.guided_score(x, 1, 2.0), rel=1e-12)
        assert p.hessian(x) == pytest.approx(q.hessian(x), rel=1e-12)


def test_a_tall_peak_inside_a_wide_component_does_not_overflow():
    p = GaussianMixture(np.zeros((2, 64)), covs=np.array([1e-12, 1.0]))
    x = np.zeros((1, 64))
    assert p.log_prob(x)[0] == pytest.approx(np.log(0.5) - 32 * np.log(2 * np.pi * 1e-12), rel=1e-12)
    assert p.posterior(x, 0)[0] == 1 and p.score(x) == pytest.approx(x, abs=1e-9)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_second_derivatives_keep_their_digits_far_away(dtype, tolerance):
    p = GaussianMixture(np.array([[1.0], [-1.0]]))
    x = np.array([[0.0], [1.0], [50.0], [200.0], [1000.0]], dtype)
    exact = -np.tanh(x[:, 0].astype(float)) ** 2  # (x - tanh x)' = tanh^2 x, with the sign of a score
    assert np.abs(p.score_divergence(x) - exact).max() < tolerance
    assert np.abs(p.hessian(x)[:, 0, 0] - exact).max() < tolerance


def test_what_cannot_be_a_label_or_a_point_is_refused_everywhere():
    p = GaussianMixture(np.array([[1.0], [-1.0]]))
    for label in ([0, 1], np.array([0, 1])):
        with pytest.raises(ValueError, match="label"):
            p.posterior(np.zeros((2, 1)), label)
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(np.zeros((1, 1))).posterior(np.array([[np.nan]]), 0)
    with pytest.raises(ValueError, match="NaN"):
        p.score_divergence(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="w must"):
        p.guided_score(np.zeros((2, 1)), 0, np.empty(0))
