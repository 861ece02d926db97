"""The tilted law against SciPy's quadratures, sums over fine grids, Monte Carlo, closed forms, and itself noised numerically."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from scipy.integrate import cumulative_simpson, dblquad, trapezoid
from scipy.special import log_expit

from guidance import OU, VE, VP, GaussianMixture, UniformMixture, sample, tilt
from guidance.tilt import Corrected, Tilted

PAIR = GaussianMixture(np.array([[1.0], [-1.0]]))
WIDE = GaussianMixture(np.array([[1.0], [-1.0]]), covs=np.array([1.0, 4.0]))
RIDGE = GaussianMixture(np.array([[0.0], [-1.0], [1.0]]), np.array([0.5, 0.25, 0.25]), labels=np.array([0, 1, 1]))
TRIANGLE = GaussianMixture(np.array([[3**0.5 / 2, 0.5], [-(3**0.5) / 2, 0.5], [0.0, -1.0]]))
APART = UniformMixture(np.array([[1.0], [-2.0]]), np.array([[2.0], [-1.0]]))
OVERLAP = UniformMixture(np.array([[-1.0], [-2.0]]), np.array([[2.0], [1.0]]), np.array([0.3, 0.7]))


def column(*values):
    return np.array(values, float)[:, None]


@st.composite
def mixtures(draw, d=1):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    K = int(rng.integers(2, 6))
    labels = np.append([0, 1], rng.integers(0, 3, K - 2))
    sd = np.exp(rng.uniform(np.log(0.3), np.log(1.5), (K, d)))
    return GaussianMixture(rng.uniform(-3, 3, (K, d)), rng.dirichlet(np.full(K, 3.0)), sd**2, labels)


def log_weight(p, label, w, x):
    """log p(x | label) + w log p(label | x) at x (n, d), from SciPy's normal densities alone."""
    sd = np.sqrt(np.broadcast_to(p.covs.variances, p.means.shape))
    logs = np.log(p.weights) + stats.norm.logpdf(x[:, None], p.means, sd).sum(2)  # (n, K)
    members = p.labels == label
    inside, every = np.logaddexp.reduce(logs[:, members], axis=1), np.logaddexp.reduce(logs, axis=1)
    return inside - np.log(p.weights[members].sum()) + w * (inside - every)


# --- densities and expectations ---


@pytest.mark.parametrize(
    "w, mean, variance, entropy, miss, negative",
    [
        (0, 1.0, 1.0, 1.41893853, 0.2247998, 0.1586553),
        (1, 1.28998927, 0.74428068, 1.26749469, 0.1449946, 5.966894e-2),
        (3, 1.53947582, 0.58881421, 1.14165603, 8.991264e-2, 1.084515e-2),
        (10, 1.87455850, 0.45331257, 0.99995980, 4.372793e-2, 5.364107e-5),
        (30, 2.22003395, 0.36374545, 0.88352439, 2.033390e-2, 3.444e-11),
        (100, 2.63492714, 0.29197740, 0.77053359, 8.174636e-3, 2.179764914676292e-32),
    ],
)
def test_numbers_of_two_unit_gaussians(w, mean, variance, entropy, miss, negative):
    target = Tilted(PAIR, 0, w)
    assert (target.mean()[0], target.cov()[0, 0], target.entropy()) == pytest.approx((mean, variance, entropy), abs=6e-9)
    assert target.expect(lambda x: -np.expm1(PAIR.log_posterior(x, 0))) == pytest.approx(miss, rel=1e-6)
    assert target.expect(lambda x: (x[:, 0] < 0).astype(float)) == pytest.approx(negative, rel=2e-4 if w == 30 else 1e-6)
    assert target.cdf(0.0) == pytest.approx(negative, abs=1e-7)
    assert (1 - target.cdf(np.sqrt(w))) == pytest.approx({0: 0.84134475, 1: 0.61768989, 3: 0.37794891, 10: 0.04077666}.get(w, 0), abs=2e-5 if w > 10 else 2e-8)


@settings(max_examples=12)
@given(mixtures(), st.sampled_from([-0.7, 0.0, 0.5, 3.0, 40.0]))
def test_on_a_line_against_a_fine_grid(p, w):
    target, grid = Tilted(p, 0, w), np.linspace(-20, 20, 40_001)  # a trapezoidal sum of steps far below any feature
    logs = log_weight(p, 0, w, grid[:, None])
    total = trapezoid(np.exp(logs), grid)
    density = np.exp(logs) / total
    mean = lambda f: trapezoid(f(grid) * density, grid)
    assert target.log_normaliser == pytest.approx(np.log(total), abs=2e-9)
    assert target.mean()[0] == pytest.approx(mean(lambda x: x), abs=1e-8)
    assert target.cov()[0, 0] == pytest.approx(mean(lambda x: x**2) - mean(lambda x: x) ** 2, abs=1e-8)
    assert target.entropy() == pytest.approx(mean(lambda x: np.log(total) - logs), abs=1e-8)
    assert target.expect(lambda x: np.cos(3 * x[:, 0])) == pytest.approx(mean(lambda x: np.cos(3 * x)), abs=1e-8)
    some = slice(5000, 35_001, 3000)
    assert target.log_prob(grid[some, None]) == pytest.approx(logs[some] - np.log(total), rel=1e-8)
    assert target.cdf(grid[some]) == pytest.approx(cumulative_simpson(density, x=grid, initial=0)[some], abs=1e-8)
    assert target.cdf(target.quantile(np.array([0.01, 0.5, 0.999]))) == pytest.approx([0.01, 0.5, 0.999], abs=1e-10)


@settings(max_examples=4)
@given(mixtures(d=2), st.sampled_from([0.5, 4.0]))
def test_in_the_plane_against_a_fine_grid(p, w):
    target, axis = Tilted(p, 0, w), np.linspace(-12, 12, 401)
    X, Y = (a.ravel() for a in np.meshgrid(axis, axis, indexing="ij"))
    share = np.exp(log_weight(p, 0, w, np.stack([X, Y], axis=1))) * (axis[1] - axis[0]) ** 2
    total = share.sum()
    assert target.log_normaliser == pytest.approx(np.log(total), abs=1e-8)
    assert target.mean() == pytest.approx([share @ X / total, share @ Y / total], abs=1e-7)
    assert target.expect(lambda x: x[:, 0] * x[:, 1] ** 3) == pytest.approx(share @ (X * Y**3) / total, rel=1e-6, abs=1e-7)


def test_full_covariances_and_a_jump_in_the_plane():
    covs = np.array([[[1.0, 0.8], [0.8, 1.0]], [[0.3, -0.1], [-0.1, 0.5]]])
    p = GaussianMixture(np.array([[0.0, 0.0], [1.0, -1.0]]), covs=covs)
    target = Tilted(p, 0, 2.0)

    def density(b, a):
        x = np.array([a, b])
        inside, outside = (0.5 * stats.multivariate_normal.pdf(x, p.means[k], covs[k]) for k in (0, 1))
        return 2 * inside * (inside / (inside + outside)) ** 2

    total = dblquad(density, -6, 6, -6, 6, epsabs=1e-6, epsrel=1e-6)[0]
    positive = dblquad(density, 0, 6, -6, 6, epsabs=1e-6, epsrel=1e-6)[0]
    assert np.exp(target.log_normaliser) == pytest.approx(total, abs=1e-6)
    assert target.expect(lambda x: (x[:, 0] > 0).astype(float)) == pytest.approx(positive / total, abs=1e-6)


def test_means_that_the_tails_or_other_components_carry():
    p = GaussianMixture(np.array([[0.0], [20.0]]))
    assert Tilted(p, 0, 0.0).expect(lambda x: np.exp(-p.log_posterior(x, 0))) == pytest.approx(2, rel=1e-8)  # E[1 / p(c | X)] = 1 / p(c)
    assert Tilted(PAIR, 0, 0.0).expect(lambda x: np.exp(0.45 * x[:, 0] ** 2)) == pytest.approx(10**0.5 * np.exp(0.45 / 0.1), rel=1e-8)
    with pytest.raises(RuntimeError, match="tails"):
        Tilted(PAIR, 0, 0.0).expect(lambda x: np.exp(0.5 * (x[:, 0] - 1) ** 2 - 100))
    many = Tilted(PAIR, 0, 1.0).expect(lambda x: np.concatenate([x, x**2], axis=1))
    assert many == pytest.approx([1.28998927, 0.74428068 + 1.28998927**2], abs=1e-7)


def test_negative_strengths_reach_from_the_class_to_the_whole_law():
    assert Tilted(WIDE, 0, -1.0).mean() == pytest.approx(WIDE.mean(), abs=1e-9)
    assert Tilted(WIDE, 0, -1.0).cov() == pytest.approx(WIDE.cov(), abs=1e-8)
    assert Tilted(WIDE, 0, -1.0).log_normaliser == pytest.approx(np.log(2), abs=1e-9)  # E[1 / p(c | X) | c]
    just_below, just_above = Tilted(WIDE, 0, -1e-9), Tilted(WIDE, 0, 1e-9)
    assert just_below.mean() == pytest.approx(just_above.mean(), abs=1e-7)
    x = Tilted(WIDE, 0, -0.5).sample(20_000, np.random.default_rng(0))[:, 0]
    assert stats.kstest(x, Tilted(WIDE, 0, -0.5).cdf).pvalue > 0.01


# --- draws ---


@pytest.mark.parametrize("p, label, w", [(PAIR, 0, 3.0), (RIDGE, 1, 1.0), (WIDE, 0, 100.0)])
def test_draws_on_a_line_follow_the_cdf(p, label, w, rng):
    target = Tilted(p, label, w)
    x = target.sample(20_000, rng)
    assert x.shape == (20_000, 1)
    assert stats.kstest(x[:, 0], target.cdf).pvalue > 0.01


@pytest.mark.parametrize("w", [2.0, 60.0])
def test_draws_in_the_plane(w, rng):
    """w = 60 keeps fewer than one in fifty draws."""
    target, n = Tilted(TRIANGLE, 2, w), 20_000
    assert (target.log_normaliser < np.log(0.02)) == (w == 60)
    x = target.sample(n, rng)
    for f in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: x[:, 0] ** 2 * x[:, 1], lambda x: np.sin(2 * x.sum(1))):
        values = f(x)
        assert abs(values.mean() - target.expect(f)) < 3.5 * values.std() / np.sqrt(n)


def test_draws_in_many_dimensions_and_single_precision(rng):
    means = np.zeros((2, 5), np.float32)
    means[:, 0] = 1, -1
    target = Tilted(GaussianMixture(means), 0, 3.0)
    x = target.sample(20_000, rng)
    line = Tilted(PAIR, 0, 3.0)
    assert x.dtype == np.float32 and x.shape == (20_000, 5)
    assert stats.kstest(x[:, 0].astype(float), line.cdf).pvalue > 0.01
    assert x[:, 1].var() == pytest.approx(1, abs=0.04)
    far = GaussianMixture(np.zeros((2, 3)), np.array([1e-9, 1 - 1e-9]))
    with pytest.raises(RuntimeError, match="corrected_sample"):
        Tilted(far, 0, 1.0).sample(10, rng)
    for call in (lambda: target.log_prob(x), lambda: target.expect(np.sum), lambda: target.noised_score(x, 0.5, 0.5)):
        with pytest.raises(ValueError, match="sample"):
            call()


# --- scores ---


@pytest.mark.parametrize(
    "w, t, x, value",
    [(1, 0.5, -1, 2.015996), (1, 0.5, 0, 0.858728), (1, 0.5, 1, -0.258560), (1, 0.5, 2, -1.331737), (3, 0.5, 0, 1.103406), (3, 0.1, 0, 2.480694)],
)
def test_tilt_then_noise_numbers(w, t, x, value):
    score = tilt.exact_score(Tilted(PAIR, 0, w), OU())
    assert score(column(x), t)[0, 0] == pytest.approx(value, abs=1e-6)


@settings(max_examples=20)
@given(mixtures(), st.sampled_from([-0.5, 1.0, 6.0]), st.sampled_from([0.05, 0.3, 0.8, 0.999]), st.floats(-3, 3))
def test_noised_score_is_the_slope_of_a_convolved_density(p, w, sigma, x):
    target, alpha, h = Tilted(p, 0, w), np.sqrt(1 - sigma**2), 1e-3 * sigma
    grid = np.linspace(-15, 15, 30_001)
    logs = log_weight(p, 0, w, grid[:, None])
    convolved = [np.logaddexp.reduce(logs - 0.5 * ((x + i * h - alpha * grid) / sigma) ** 2) for i in (-2, -1, 1, 2)]
    slope = (convolved[0] - 8 * convolved[1] + 8 * convolved[2] - convolved[3]) / (12 * h)
    assert target.noised_score(column(x), alpha, sigma)[0, 0] == pytest.approx(slope, rel=1e-7, abs=1e-7)


@settings(max_examples=25)
@given(mixtures(), st.sampled_from([0.5, 3.0, 40.0, 100.0]), st.sampled_from([0.05, 0.2, 0.6, 0.9]), st.floats(-20, 20))
def test_noised_score_far_out_where_p_of_the_class_is_steep(p, w, sigma, x):
    target, alpha, grid = Tilted(p, 0, w), np.sqrt(1 - sigma**2), np.linspace(-60, 60, 240_001)
    logs = target.log_prob(grid[:, None]) - 0.5 * ((x - alpha * grid) / sigma) ** 2
    share = np.exp(logs - logs.max())
    value = share @ (alpha * grid - x) / share.sum() / sigma**2
    assert target.noised_score(column(x), alpha, sigma)[0, 0] == pytest.approx(value, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(
    "means, spread, labels, x",
    [
        ((1.2, -1.2, 2.2), (0.3, 0.6, 0.4), (0, 0, 1), 20.0),  # far out the class lives where it is least likely
        ((0.0, 0.37), (1.0, 0.01), (0, 1), 0.5),  # a needle of another class leaves a hole between the first nodes
    ],
)
def test_noised_score_overlooks_nothing(means, spread, labels, x):
    target, grid = Tilted(GaussianMixture(column(*means), covs=np.square(spread)[:, None], labels=np.array(labels)), 0, 3.0), np.linspace(-40, 40, 400_001)
    logs = target.log_prob(grid[:, None]) - 0.5 * ((x - 0.8 * grid) / 0.6) ** 2
    share = np.exp(logs - logs.max())
    assert target.noised_score(column(x), 0.8, 0.6)[0, 0] == pytest.approx(share @ (0.8 * grid - x) / share.sum() / 0.36, rel=1e-7)


@pytest.mark.parametrize("w, sigma", [(3.0, 0.2), (3.0, 0.6), (40.0, 0.9)])
def test_noised_score_of_thin_clouds_in_the_plane(w, sigma):
    means, spread = np.array([[0.5, -1.0], [-1.0, 0.4], [1.5, 1.0]]), np.array([[0.25, 1.4], [1.2, 0.3], [0.5, 0.5]])
    target, alpha = Tilted(GaussianMixture(means, covs=spread**2), 0, w), np.sqrt(1 - sigma**2)
    axis = np.linspace(-9, 9, 601)
    y = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    x = np.array([[0.1, 0.7], [2.0, 1.5], [-3.0, 2.0]])
    logs = target.log_prob(y) - 0.5 * ((x[:, None] - alpha * y) ** 2).sum(2) / sigma**2  # (3, N)
    share = np.exp(logs - logs.max(1, keepdims=True))
    values = (alpha * share @ y / share.sum(1, keepdims=True) - x) / sigma**2
    assert target.noised_score(x, alpha, sigma) == pytest.approx(values, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("p, label, w", [(PAIR, 0, 100.0), (RIDGE, 1, 2.0), (WIDE, 0, 10.0), (TRIANGLE, 2, 3.0)])
def test_noised_score_at_both_ends(p, label, w, rng):
    target, x = Tilted(p, label, w), rng.normal(0, 2, (50, p.d))
    assert target.noised_score(x, 1.0, 1e-6) == pytest.approx(target.score(x), rel=1e-7, abs=1e-7)
    assert target.noised_score(x, 1.0, 0.0) == pytest.approx(target.score(x))
    assert target.noised_score(x, 0.0, 1.3) == pytest.approx(-x / 1.3**2, abs=1e-12)
    nearly = target.noised_score(x, 1e-4, 1.0)  # -x + alpha E[X] + O(alpha^2)
    assert nearly == pytest.approx(-x + 1e-4 * target.mean(), abs=1e-6)


def test_noised_score_in_the_plane_against_draws(rng):
    covs = np.array([[[1.0, 0.6], [0.6, 0.8]], [[0.3, -0.1], [-0.1, 0.5]], [[0.5, 0.0], [0.0, 0.2]]])
    p = GaussianMixture(np.array([[0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]]), covs=covs, labels=np.array([0, 1, 0]))
    target, x = Tilted(p, 0, 2.0), np.array([[0.3, -0.8], [1.5, 0.5], [-1.0, -1.0]])
    draws = target.sample(400_000, rng)
    for alpha, sigma in ((0.8, 0.6), (0.3, 0.95)):
        for point, value in zip(x, target.noised_score(x, alpha, sigma)):
            kernel = np.exp(-0.5 * ((point - alpha * draws) ** 2).sum(1) / sigma**2)
            terms = (alpha * draws - point) / sigma**2
            mean = kernel @ terms / kernel.sum()
            error = np.sqrt((kernel**2) @ (terms - mean) ** 2) / kernel.sum()
            assert np.all(np.abs(value - mean) < 4 * error)


def test_noised_score_far_out_and_in_single_precision():
    target = Tilted(PAIR, 0, 3.0)
    # Beyond the classes p(c | x) is 1, or falls like exp(2 x): Gaussians whose noised scores are known.
    assert target.noised_score(column(50.0), 0.8, 0.6)[0, 0] == pytest.approx(0.8 - 50, rel=1e-9)
    assert target.noised_score(column(-50.0), 0.8, 0.6)[0, 0] == pytest.approx(0.8 * 7 + 50, rel=1e-9)
    x = np.float32([[0.1], [2.0]])
    assert target.noised_score(x, 0.8, 0.6).dtype == target.score(x).dtype == target.log_prob(x).dtype == np.float32


def test_tilt_then_noise_samples_the_tilt_and_guidance_does_not(rng):
    target, process, n = Tilted(PAIR, 0, 3.0), OU(), 2000
    start = stats.norm.ppf((np.arange(n) + 0.5) / n)[:, None]  # stratified: the flow on a line keeps quantiles
    x = sample(tilt.exact_score(target, process), process, start, process.times(16, spacing="angle"), method="rk4", progress=False)
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    assert np.quantile(x, levels) == pytest.approx(target.quantile(levels), abs=4e-3)
    assert x.mean() == pytest.approx(target.mean()[0], abs=1e-3) and abs(2.34838 - x.mean()) > 0.8


# --- boxes ---


@pytest.mark.parametrize("w", [-0.5, 0, 1, 15, 1000])
def test_the_tilt_of_disjoint_boxes_is_the_conditional_law(w, rng):
    target = Tilted(APART, 0, w)
    assert (target.mean()[0], target.cov()[0, 0], target.entropy(), target.log_normaliser) == pytest.approx((1.5, 1 / 12, 0, 0), abs=1e-12)
    assert np.exp(target.log_prob(column(1.2, 1.9, 0.5, -1.5))) == pytest.approx([1, 1, 0, 0])
    assert stats.kstest(target.sample(5000, rng)[:, 0], stats.uniform(1, 1).cdf).pvalue > 0.01
    x = column(-1.0, 0.9, 1.5, 3.0)
    assert target.noised_score(x, 0.9, 0.2) == pytest.approx(APART.given(0).noised(0.9, 0.2).score(x))
    assert target.expect(lambda x: x[:, 0] ** 3) == pytest.approx(15 / 4)


@pytest.mark.parametrize("w", [-1, -0.5, 0, 2, 5000])
def test_the_tilt_of_overlapping_boxes(w, rng):
    """U[-1, 2] with weight .3 against U[-2, 1] with .7: the class is certain on (1, 2), and .3 on (-1, 1)."""
    target, share = Tilted(OVERLAP, 0, w), 0.3 ** (1.0 * w)
    mass = np.array([2 * share, 1.0])
    if w == -1:
        assert target.mean() == pytest.approx(OVERLAP.mean()) and target.cov() == pytest.approx(OVERLAP.cov())
        return
    mass /= mass.sum()
    assert target.cdf(np.array([-1.5, 0.0, 1.0, 1.5, 3.0])) == pytest.approx([0, mass[0] / 2, mass[0], mass[0] + mass[1] / 2, 1])
    assert target.mean()[0] == pytest.approx(1.5 * mass[1])
    assert target.quantile(np.array([0.2, 0.9])) == pytest.approx([1 - (mass[0] - u) / mass[0] * 2 if u < mass[0] else 1 + (u - mass[0]) / mass[1] for u in (0.2, 0.9)])
    assert target.expect(lambda x: x[:, 0]) == pytest.approx(1.5 * mass[1])
    assert stats.kstest(target.sample(5000, rng)[:, 0], target.cdf).pvalue > 0.01


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([-0.5, 0.0, 2.5]))
def test_random_boxes_against_the_definition(seed, d, w):
    rng = np.random.default_rng(seed)
    lows = rng.integers(0, 4, (5, d)).astype(float)  # many borders coincide
    p = UniformMixture(lows, lows + rng.integers(1, 4, (5, d)), rng.dirichlet(np.ones(5)), np.array([0, 0, 0, 1, 1]))
    target = Tilted(p, 0, w)
    x = p.given(0).sample(400, rng)[0]
    logs = p.given(0).log_prob(x) + w * p.log_posterior(x, 0) - target.log_normaliser
    assert target.log_prob(x) == pytest.approx(logs, abs=1e-10)
    assert np.exp(target.log_prob(target.sample(20, rng))).min() > 0
    middles = np.stack(np.meshgrid(*[np.arange(8) + 0.5] * d, indexing="ij"), axis=-1).reshape(-1, d)
    density = np.exp(target.log_prob(middles))  # unit cells
    assert density.sum() == pytest.approx(1, abs=1e-12)
    assert target.mean() == pytest.approx(density @ middles, abs=1e-12)
    centred = middles - target.mean()
    assert target.cov() == pytest.approx((density[:, None] * centred).T @ centred + np.eye(d) / 12, abs=1e-12)


# --- weights along guided paths ---


@pytest.mark.parametrize("w", [1.0, 4.0])
@pytest.mark.parametrize("process, T, steps", [(OU(0.5), 8.0, 150), (VP(), 1.0, 200)])
def test_weights_turn_guidance_into_the_tilt(w, process, T, steps, rng):
    target, n = Tilted(RIDGE, 0, w), 6000
    x = RIDGE.given(0).noised(process.alpha(T), process.sigma(T)).sample(n, rng)[0]
    times = T * np.linspace(1, 0, steps + 1) ** 2
    out = tilt.corrected_sample(RIDGE, 0, w, process, x, times, rng, resample_below=0.0, progress=False)
    assert isinstance(out, Corrected) and not out.resampled.any()
    # The effective share bounds the relative standard error of the normaliser; 1.2% is for the steps.
    error = np.sqrt((n / out.effective[-1] - 1) / n)
    assert out.log_normaliser == pytest.approx(target.log_normaliser, abs=4 * error + 0.012)
    second = out.x[:, 0] ** 2
    spread = np.sqrt(np.exp(2 * out.log_weights) @ (second - out.mean(second)) ** 2)
    assert out.mean(second) == pytest.approx(target.cov()[0, 0], abs=4 * spread + 0.015)


def test_weights_on_hard_data_need_resampling(rng):
    means = column(-3, 2.5, -1.5, 0.5, 4.5, -4.5, 1.5)
    p = GaussianMixture(means, np.array([0.15, 0.15, 0.09, 0.12, 0.09, 0.24, 0.16]), np.array([0.6, 0.7, 0.7, 0.8, 0.7, 0.7, 0.75]) ** 2, np.array([0, 0, 1, 1, 1, 2, 2]))
    process, n, w = OU(0.5), 4000, 2.0
    target = Tilted(p, 0, w)
    assert np.exp(target.log_normaliser) / p.prior(0) ** w == pytest.approx(4.63, abs=0.005)
    x, times = p.given(0).noised(process.alpha(8), process.sigma(8)).sample(n, rng)[0], 8 * np.linspace(1, 0, 201) ** 2
    plain = tilt.corrected_sample(p, 0, w, process, x, times, np.random.default_rng(1), resample_below=0, progress=False)
    better = tilt.corrected_sample(p, 0, w, process, x, times, np.random.default_rng(1), progress=False)
    assert plain.effective[-1] < 0.3 * n and better.resampled.sum() >= 2
    assert better.effective[-1] > 2 * plain.effective[-1]
    assert better.log_normaliser == pytest.approx(target.log_normaliser, abs=0.15)


def test_systematic_resampling(rng):
    weights = np.array([0.5, 0.25, 0.25, 0.0])
    with np.errstate(divide="ignore"):
        logs = np.log(weights) + 700.0
    for _ in range(20):
        assert np.bincount(tilt.systematic_resample(logs, rng), minlength=4).tolist() == [2, 1, 1, 0]
    uneven = np.log(rng.dirichlet(np.ones(50)))
    counts = np.mean([np.bincount(tilt.systematic_resample(uneven, rng), minlength=50) for _ in range(4000)], axis=0)
    assert counts == pytest.approx(50 * np.exp(uneven), abs=0.05)
    assert tilt.effective_size(np.zeros(7)) == pytest.approx(7) and tilt.effective_size(logs) == pytest.approx(1 / 0.375)


# --- bad input ---


def test_bad_input_is_named(rng):
    target, start, times = Tilted(PAIR, 0, 1.0), np.zeros((3, 1)), np.array([1.0, 0.5, 0.0])
    run = lambda **change: tilt.corrected_sample(**(dict(p=PAIR, label=0, w=1.0, process=OU(), x=start, times=times, rng=rng) | change))
    for call, error, message in (
        (lambda: Tilted(PAIR, 7, 1.0), ValueError, "label"),
        (lambda: Tilted(PAIR, 0, -1.5), ValueError, "w must be"),
        (lambda: Tilted(PAIR, 0, np.nan), ValueError, "w must be"),
        (lambda: Tilted(PAIR, 0, np.array([1.0, 2.0])), ValueError, "w must be"),
        (lambda: Tilted(APART.noised(1.0, 0.1), 0, 1.0), ValueError, "noise"),
        (lambda: target.expect(lambda x: x[:3]), ValueError, "f must return"),
        (lambda: target.expect(lambda x: np.full(len(x), np.nan)), RuntimeError, "not finite"),
        (lambda: Tilted(TRIANGLE, 0, 1.0).expect(lambda x: (x[:, 0] > x[:, 1]) * 1.0), RuntimeError, "too rough"),
        (lambda: target.sample(-1, rng), ValueError, "n must be"),
        (lambda: target.sample(3, 0), TypeError, "rng"),
        (lambda: target.quantile(1.0), ValueError, "u must"),
        (lambda: target.cdf(np.nan), ValueError, "x must"),
        (lambda: Tilted(TRIANGLE, 0, 1.0).cdf(0.0), ValueError, "d = 1"),
        (lambda: target.noised_score(start, 0.0, 0.0), ValueError, "alpha"),
        (lambda: target.noised_score(start, 1.0, -1.0), ValueError, "sigma"),
        (lambda: target.noised_score(np.zeros((3, 2)), 1.0, 1.0), ValueError, "d = 1"),
        (lambda: target.noised_score(start + np.nan, 1.0, 1.0), ValueError, "finite"),
        (lambda: target.log_prob(start + np.nan), ValueError, "NaN"),
        (lambda: tilt.exact_score(PAIR, OU()), TypeError, "Tilted"),
        (lambda: run(w=np.inf), ValueError, "w must"),
        (lambda: run(x=np.zeros((2, 3, 1))), ValueError, "x must"),
        (lambda: run(rng=None), TypeError, "rng"),
        (lambda: run(times=times[::-1]), ValueError, "decreasing"),
        (lambda: run(resample_below=2), ValueError, "resample_below"),
        (lambda: tilt.systematic_resample(np.full(3, -np.inf), rng), ValueError, "log_weights"),
        (lambda: tilt.effective_size(np.array([np.nan])), ValueError, "log_weights"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_any_process_gives_the_same_field():
    target, x = Tilted(PAIR, 0, 2.0), column(-0.5, 1.5)
    fields = [tilt.exact_score(target, process)(x, t) for process, t in ((OU(), 0.5), (OU(0.5), 1.0))]
    assert fields[0] == pytest.approx(fields[1])
    ratio = np.sqrt(np.expm1(1.0))  # VE at this noise over signal, with x / alpha
    scaled = tilt.exact_score(target, VE())(x * np.exp(0.5), ratio)
    assert scaled * np.exp(0.5) == pytest.approx(fields[0])


def test_log_density_of_two_unit_gaussians_in_closed_form():
    target, x = Tilted(PAIR, 0, 5.0), column(-30.0, -1.0, 0.0, 2.0, 40.0)
    logs = -0.5 * (x[:, 0] - 1) ** 2 + 5 * log_expit(2 * x[:, 0])
    assert np.diff(target.log_prob(x)) == pytest.approx(np.diff(logs), rel=1e-12)
    h = 1e-5
    assert target.score(x)[:, 0] == pytest.approx((target.log_prob(x + h) - target.log_prob(x - h)) / (2 * h), rel=1e-5, abs=1e-5)
