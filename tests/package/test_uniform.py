"""Uniform mixtures against 50-digit arithmetic, finite differences and draws; their flow map against an independent solver."""
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.special import logsumexp, ndtri

from guidance import OU, GaussianMixture, UniformMixture, cfg, classifier_guidance, exact, metrics, sample
from guidance.exact import FlowMap

DISJOINT = UniformMixture([[1.0], [-2.0]], [[2.0], [-1.0]])
UNBALANCED = UniformMixture([[1.0], [-2.0]], [[2.0], [-1.0]], [1 / 1.01, 0.01 / 1.01])
MIDDLE = UniformMixture([[-0.5], [-3.0], [2.0]], [[0.5], [-2.0], [3.0]], [0.5, 0.25, 0.25], [0, 1, 1])
ASYMMETRIC = UniformMixture([[-0.5], [-3.0], [1.0]], [[0.5], [-2.0], [2.0]], [0.5, 0.25, 0.25], [0, 1, 1])
NESTED = UniformMixture([[-0.5], [-2.0]], [[0.5], [2.0]], [0.2, 0.8])
OVERLAP = UniformMixture([[-1.0], [-2.0]], [[2.0], [1.0]])
TOUCHING = UniformMixture([[0.0], [-1.0]], [[1.0], [0.0]], [0.3, 0.7])
TWO = UniformMixture([[-2.0], [1.0], [-0.5]], [[-1.0], [2.5], [0.7]], [0.25, 0.35, 0.4], [0, 0, 1])


def fifty(p, x, label=None):
    """log p(x), score, largest score of a box, divergence of the score, log p(label | x) at one point, with 50 good digits."""
    with mpmath.workdps(80):
        s, boxes = mpmath.mpf(p.noise), []
        for weight, low, high, c in zip(p.weights, p.lows, p.highs, p.labels):
            if weight == 0:
                continue
            density, first, second = mpmath.mpf(float(weight)), [], []
            for v, l, h in zip(x, low, high):
                v, l, h = (mpmath.mpf(float(i)) for i in (v, l, h))
                a, b = (v - l) / s, (v - h) / s
                mass = (mpmath.erfc(b / mpmath.sqrt(2)) - mpmath.erfc(a / mpmath.sqrt(2))) / 2
                if a + b < 0:
                    mass = (mpmath.erfc(-a / mpmath.sqrt(2)) - mpmath.erfc(-b / mpmath.sqrt(2))) / 2
                slope = (mpmath.npdf(a) - mpmath.npdf(b)) / s / mass
                first.append(slope)
                second.append((b * mpmath.npdf(b) - a * mpmath.npdf(a)) / s**2 / mass - slope**2)
                density *= mass / (h - l)
            boxes.append((density, first, second, c))
        total = sum(box[0] for box in boxes)
        score = [sum(box[0] * box[1][i] for box in boxes) / total for i in range(p.d)]
        size = max(abs(v) for box in boxes for v in box[1])
        divergence = sum(box[0] * sum(box[2][i] + (box[1][i] - score[i]) ** 2 for i in range(p.d)) for box in boxes) / total
        inside = sum(box[0] for box in boxes if box[3] == label)
        outside = sum(box[0] for box in boxes if box[3] != label)
        log_posterior = -mpmath.log1p(outside / inside) if inside else -mpmath.inf
        return float(mpmath.log(total)), np.array([float(v) for v in score]), float(size), float(divergence), float(log_posterior)


def boxes(K, d, seed, zero_weight=False):
    rng = np.random.default_rng(seed)
    lows, widths = rng.uniform(-3, 3, (K, d)), 10 ** rng.uniform(-2, 0.7, (K, d))
    weights = rng.dirichlet(np.ones(K))
    if zero_weight and K > 1:
        weights[0] = 0
        weights /= weights.sum()
    return UniformMixture(lows, lows + widths, weights, np.arange(K) % 2)


@settings(max_examples=100, deadline=None)
@given(
    low=st.floats(-5, 5).map(lambda v: round(v, 6)), log_width=st.floats(-3, 1), log_noise=st.floats(-6, 3),
    where=st.sampled_from(["outside", "inside", "edge", "near centre", "centre", "far", "anywhere"]), share=st.floats(0, 1),
)
def test_score_of_a_box_to_twelve_digits(low, log_width, log_noise, where, share):
    width, noise = 10**log_width, 10**log_noise
    high = low + width
    p = UniformMixture([[low]], [[high]]).noised(1.0, noise)
    x = {
        "outside": high + 50 * noise * share, "inside": low + share * width, "edge": low + noise * (4 * share - 2),
        "far": low - 1e4 * noise,
        "near centre": (low + high) / 2 + 1e-8 * share * width, "centre": (low + high) / 2, "anywhere": high + (100 * share - 50) * noise,
    }[where]
    log_prob, score, size, divergence, _ = fifty(p, [x])
    point = np.array([[x]])
    assert p.score(point)[0, 0] == pytest.approx(score[0], rel=1e-12, abs=1e-290)
    assert p.log_prob(point)[0] == pytest.approx(log_prob, rel=1e-14, abs=1e-14)
    # The divergence is (variance / noise^2 - 1) / noise^2, with a variance that is a difference of squares.
    distance = max(low - x, x - high, 0) / noise
    assert p.score_divergence(point)[0] == pytest.approx(divergence, rel=0, abs=1e-14 * (distance**2 + 40**2) / noise**2)


@settings(max_examples=30, deadline=None)
@given(
    K=st.integers(1, 5), d=st.integers(1, 3), seed=st.integers(0, 10_000), alpha=st.sampled_from([0.0, np.exp(-10), 0.3, 0.999, 1.0]),
    log_noise=st.floats(-6, 1), w=st.floats(-1, 50), reach=st.floats(0.01, 50),
)
def test_random_mixtures_to_ten_digits(K, d, seed, alpha, log_noise, w, reach):
    p = boxes(K, d, seed, zero_weight=seed % 3 == 0).noised(alpha, 10**log_noise)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, K, 3)
    x = p.lows[rows] + (p.highs - p.lows)[rows] * rng.random((3, d))
    x += p.noise * reach * rng.standard_normal((3, d)) * rng.integers(0, 2, (3, 1))
    label = int(p.labels[np.argmax(p.weights)])
    if alpha == 0:  # no box has a width: pure noise
        assert p.score(x) == pytest.approx(-x / p.noise**2, rel=1e-14)
        assert p.log_posterior(x, label) == pytest.approx(np.full(3, np.log(p.prior(label))), rel=1e-10, abs=1e-12)
        return
    values = p.log_prob(x), p.score(x), p.log_posterior(x, label), p.score_divergence(x)
    for point, log_prob, score, posterior, divergence in zip(x, *values):
        expected = fifty(p, point, label)
        assert log_prob == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
        assert np.abs(score - expected[1]).max() <= 1e-10 * expected[2]
        assert posterior == pytest.approx(expected[4], rel=1e-9, abs=1e-300)
        assert divergence == pytest.approx(expected[3], abs=1e-9 * (expected[2] ** 2 + d / p.noise**2))
    conditional, unconditional = p.given(label).score(x), p.score(x)
    scale = (1 + abs(w)) * max(np.abs([conditional, unconditional]).max(), 1e-280)
    assert np.abs(p.guided_score(x, label, w) - ((1 + w) * conditional - w * unconditional)).max() <= 1e-9 * scale
    assert sum(p.posterior(x, c) for c in p.classes) == pytest.approx(np.ones(3), rel=1e-12)


@pytest.mark.parametrize("noise", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_score_and_hessian_are_derivatives(noise, d):
    p, h = boxes(4, d, 5).noised(0.8, noise), 1e-5 * noise
    x = p.sample(12, np.random.default_rng(0))[0]
    steps = h * np.eye(d)
    gradient = np.stack([(p.log_prob(x + e) - p.log_prob(x - e)) / (2 * h) for e in steps], 1)
    hessian = np.stack([(p.score(x + e) - p.score(x - e)) / (2 * h) for e in steps], 1)
    assert p.score(x) == pytest.approx(gradient, rel=1e-6, abs=1e-6 / noise)
    assert p.hessian(x) == pytest.approx(hessian, rel=1e-6, abs=1e-6 / noise**2)
    assert p.score_divergence(x) == pytest.approx(np.trace(hessian, axis1=1, axis2=2), rel=1e-6, abs=1e-6 / noise**2)


def test_density_integrates_to_one_and_a_wide_noise_gives_the_gaussian():
    p = DISJOINT.noised(0.7, 0.2)
    x = np.linspace(-5, 5, 20_001)
    assert np.trapezoid(np.exp(p.log_prob(x[:, None])), x) == pytest.approx(1, abs=1e-12)
    wide = UniformMixture([[-1.0, -2.0]], [[1.0, 2.0]]).noised(1.0, 1e4)
    y = np.random.default_rng(0).standard_normal((5, 2)) * 1e4
    assert wide.score(y) == pytest.approx(-y / (1e8 + np.array([4, 16]) / 12), rel=1e-13)


def test_without_noise():
    p = UniformMixture([[0.0, 0.0], [1.0, 1.0]], [[2.0, 2.0], [3.0, 3.0]], [0.25, 0.75])
    x = np.array([[0.5, 0.5], [1.5, 1.5], [0.0, 2.0], [3.0, 3.0]])
    assert p.log_prob(x) == pytest.approx(np.log([1 / 16, 1 / 4, 1 / 16, 3 / 16]), rel=1e-14)
    assert p.posterior(x, 1) == pytest.approx([0, 0.75, 0, 1], abs=1e-15)
    assert not p.score(x).any() and not p.hessian(x).any() and not p.guided_score(x[:3], 0, 3.0).any()
    outside = np.array([[0.5, 2.5]])
    assert p.log_prob(outside)[0] == -np.inf
    for call in (p.score, p.hessian, p.score_divergence, lambda x: p.posterior(x, 0), lambda x: p.guided_score(x, 0, 1.0)):
        with pytest.raises(ValueError, match="t_min > 0"):
            call(outside)
    with pytest.raises(ValueError, match="t_min > 0"):
        p.guided_score(x, 0, 1.0)  # the last point has no density in class 0


def test_noised_is_the_law_of_the_noised_sample_and_composes():
    p, rng = boxes(4, 2, 3), np.random.default_rng(0)
    x, labels = p.sample(200_000, rng)
    assert np.all(np.isfinite(p.log_prob(x)))
    noised = p.noised(0.6, 0.8)
    for law, y in ((p, x), (noised, 0.6 * x + 0.8 * rng.standard_normal(x.shape)), (noised, noised.sample(200_000, rng)[0])):
        assert np.all(np.abs(y.mean(0) - law.mean()) < 5 * np.sqrt(np.diag(law.cov()) / len(y)))
        assert np.cov(y.T) == pytest.approx(law.cov(), abs=0.05)
    assert abs((labels == 1).mean() - p.prior(1)) < 5e-3
    assert noised.posterior(y, 1).mean() == pytest.approx(p.prior(1), abs=5e-3)
    twice, once = p.noised(0.6, 0.8).noised(0.5, 0.3), p.noised(0.3, np.hypot(0.4, 0.3))
    assert twice.score(y[:50]) == pytest.approx(once.score(y[:50]), rel=1e-12)
    assert twice.log_prob(y[:50]) == pytest.approx(once.log_prob(y[:50]), rel=1e-12)
    y = y[:50]
    assert noised.given(1).log_prob(y) + np.log(p.prior(1)) == pytest.approx(noised.log_prob(y) + noised.log_posterior(y, 1), rel=1e-11)


def test_precision_shapes_and_chunks():
    p = boxes(3, 2, 1).noised(0.9, 0.3)
    x = np.random.default_rng(0).standard_normal((30_011, 2))
    whole = p.score(x)
    assert p.score(x[-3:]) == pytest.approx(whole[-3:], rel=1e-14)
    assert p.score(x[:24].reshape(2, 3, 4, 2)) == pytest.approx(whole[:24].reshape(2, 3, 4, 2), rel=1e-14)
    single = x[:9].astype(np.float32)
    for value in (p.score(single), p.log_prob(single), p.posterior(single, 0), p.guided_score(single, 0, 2.0), p.hessian(single)):
        assert value.dtype == np.float32 and np.all(np.isfinite(value))
    assert p.score(single) == pytest.approx(p.score(single.astype(float)), rel=1e-6)
    half = UniformMixture(np.array([[0.0]], np.float32), np.array([[1.0]], np.float32))
    assert half.sample(5, np.random.default_rng(0))[0].dtype == np.float32
    assert p.score(np.zeros((0, 2))).shape == (0, 2) and p.sample(0, np.random.default_rng(0))[0].shape == (0, 2)


def test_forms_of_w_are_those_of_gaussian_mixtures():
    p = boxes(4, 2, 2).noised(0.9, 0.5)
    x, ws = np.random.default_rng(0).standard_normal((5, 2)), np.array([0.0, 1.0, 7.0])
    one = np.stack([p.guided_score(x, 1, w) for w in ws])
    assert p.guided_score(x, 1, ws) == pytest.approx(one, rel=1e-14)
    assert p.guided_score(one, 1, ws) == pytest.approx(np.stack([p.guided_score(a, 1, w) for a, w in zip(one, ws)]), rel=1e-14)
    each = np.linspace(0, 3, 5)[:, None]
    alone = np.concatenate([p.guided_score(a[None], 1, float(w[0])) for a, w in zip(x, each)])
    assert p.guided_score(x, 1, each) == pytest.approx(alone, rel=1e-14)
    assert p.guided_score(x, 1, 0.0) == pytest.approx(p.given(1).score(x), rel=1e-14)
    alone = UniformMixture([[0.0]], [[1.0]]).noised(1, 0.1)
    assert alone.guided_score(np.zeros((2, 1)), 0, ws).shape == (3, 2, 1)
    for w in (np.nan, np.ones((4, 2)), "3", np.ones((3, 1))):
        with pytest.raises(ValueError, match="w"):
            p.guided_score(x, 1, w)


def test_guides_samplers_and_metrics_take_it():
    p, process, rng = UniformMixture([[1.0, 0.0], [-2.0, 0.0]], [[2.0, 1.0], [-1.0, 1.0]]), OU(), np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    free, by_classifier = cfg(p, 0, 3.0, process), classifier_guidance(p, 0, 3.0, process)
    for t in (0.01, 0.5, 4.0):
        assert by_classifier(x, t) == pytest.approx(free(x, t), rel=1e-6, abs=1e-8)
    start = rng.standard_normal((4000, 2))
    out = sample(free, process, start, process.times(300, t_min=1e-3, spacing="log-snr"), progress=False)
    flow = FlowMap(p.__class__([[1.0], [-2.0]], [[2.0], [-1.0]]), 0, 3.0, t_min=1e-3)
    # Both classes have the same second coordinate: the first one is the flow on a line, start by start.
    assert np.abs(out[:, 0] - flow.map(start[:, 0])).mean() < 3e-3
    assert metrics.confidence(p.noised(process.alpha(1e-3), process.sigma(1e-3)), out, 0).min() > 0.999
    assert sample(cfg(p, 0, 1.0, process), process, start, process.times(50, spacing="angle"), progress=False).shape == (4000, 2)


@pytest.mark.parametrize(
    "lows, highs, options, error, words",
    [
        ([[0.0]], [[0.0]], {}, ValueError, "lows must be below highs"),
        ([[0.0, 2.0]], [[1.0, 1.0]], {}, ValueError, "box 0 in dimension 1"),
        ([0.0], [1.0], {}, ValueError, r"\(K, d\)"), ([[0.0]], [[1.0, 2.0]], {}, ValueError, "highs"),
        ([[np.nan]], [[1.0]], {}, ValueError, "lows"), ([[0.0]], [[np.inf]], {}, ValueError, "highs"),
        (np.array([[0]]), np.array([[1]]), {}, TypeError, "lows"), ([[0.0]], [[1.0]], dict(weights=[0.5]), ValueError, "weights"),
        ([[0.0]], [[1.0]], dict(weights=[0.5, 0.5]), ValueError, "weights"), ([[0.0]], [[1.0]], dict(labels=[0.5]), ValueError, "labels"),
        ([[0.0]], [[1.0]], dict(noise=-1.0), ValueError, "noise"), ([[0.0]], [[1.0]], dict(noise=np.nan), ValueError, "noise"),
    ],
)
def test_bad_boxes(lows, highs, options, error, words):
    with pytest.raises(error, match=words):
        UniformMixture(lows, highs, **options)


def test_bad_points_and_labels():
    p = UniformMixture([[0.0], [2.0]], [[1.0], [3.0]], [1.0, 0.0]).noised(1, 0.1)
    for x in ([[np.nan]], [[np.inf]], [[1]], [[1.0, 2.0]], [1.0], [[1e200]]):
        with pytest.raises(TypeError if x == [[1]] else ValueError, match="x"):
            p.score(np.array(x))
    zero = np.zeros((1, 1))
    for call in (lambda: p.given(7), lambda: p.posterior(zero, 7), lambda: p.given(1), lambda: p.guided_score(zero, 1, 1.0)):
        with pytest.raises(ValueError, match="label"):
            call()
    assert p.posterior(np.zeros((1, 1)), 0)[0] == 1 and p.posterior(np.zeros((1, 1)), 1)[0] == 0
    for alpha, sigma in ((-1.0, 1.0), (0.0, 0.0), (1.0, np.nan), (np.inf, 1.0)):
        with pytest.raises(ValueError, match="noised"):
            DISJOINT.noised(alpha, sigma)
    with pytest.raises(TypeError, match="Generator"):
        p.sample(3, 0)
    with pytest.raises(ValueError, match="n must"):
        p.sample(-1, np.random.default_rng(0))


# --- the flow map ---


def moments(x, low, high, tau):
    """Log-mass and mean of N(x, tau^2) cut to [low, high], by quadrature where it has its mass."""
    ends = np.clip([x - 12 * tau, x + 12 * tau], low, high)
    if x > high:
        ends = np.array([max(low, high - 40 * tau * min(1, tau / (x - high))), high])
    if x < low:
        ends = np.array([low, min(high, low + 40 * tau * min(1, tau / (low - x)))])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    cuts = np.linspace(*ends, 5)
    half = np.diff(cuts)[:, None] / 2
    at = (cuts[:-1, None] + half * (1 + nodes)).ravel()
    logs = -0.5 * ((x - at) / tau) ** 2
    mass = np.exp(logs - logs.max()) * (half * weights).ravel()
    return logs.max() + np.log(mass.sum() / (high - low)), mass @ at / mass.sum()


def reference(p, label, w, xi, end=1e-5):
    """The guided flow of X = x / alpha in tau = sigma / alpha: dX / d log tau = X - m_w."""
    alpha, inside = np.exp(-10.0), p.labels == label

    def rate(log_tau, x):
        logs, means = np.array([moments(x[0], low[0], high[0], np.exp(log_tau)) for low, high in zip(p.lows, p.highs)]).T
        logs = logs + np.log(p.weights)
        every = np.exp(logs - logsumexp(logs)) @ means
        within = np.exp(logs[inside] - logsumexp(logs[inside])) @ means[inside]
        return [x[0] - within - w * (within - every)]

    start = 0.5 * np.log(1 - alpha**2) - np.log(alpha)
    return solve_ivp(rate, (start, np.log(end)), [xi / alpha], method="LSODA", rtol=1e-9, atol=1e-10).y[0, -1]


@pytest.mark.parametrize(
    "p, w, u",
    [(DISJOINT, 3.0, 0.3), (TOUCHING, 2.0, 0.2), (OVERLAP, 10.0, 0.5), (NESTED, 1.0, 0.1), (TWO, 2.0, 0.9), (UNBALANCED, 30.0, 0.6)],
)
def test_quantiles_against_an_independent_solver(p, w, u):
    assert FlowMap(p, 0, w).quantile(u) == pytest.approx(reference(p, 0, w, ndtri(u)), abs=2e-7)


@pytest.mark.parametrize("w, xi", [(3.0, -0.4), (1.0, 1.1)])
def test_map_against_arbitrary_precision(w, xi):
    def mean(x, low, high, tau):
        a, b = (x - low) / tau, (x - high) / tau
        mass = mpmath.ncdf(a) - mpmath.ncdf(b)
        return mass / (high - low), x + tau * (mpmath.npdf(a) - mpmath.npdf(b)) / mass

    with mpmath.workdps(30):
        def rate(s, y):  # y = x in OU's clock, s = log tau
            tau = mpmath.exp(s)
            x = y * mpmath.sqrt(1 + tau**2)
            (p_in, m_in), (p_out, m_out) = mean(x, 1, 2, tau), mean(x, -2, -1, tau)
            m = m_in + w * p_out / (p_in + p_out) * (m_in - m_out)
            return (x - m - y * tau**2 / mpmath.sqrt(1 + tau**2)) / mpmath.sqrt(1 + tau**2)

        s, y = mpmath.log(mpmath.sqrt(mpmath.exp(20) - 1)), mpmath.mpf(xi)
        steps = 150
        h = (mpmath.log(mpmath.mpf("0.3")) - s) / steps
        for _ in range(steps):  # Runge-Kutta of order 4: 1e-7 here is enough to see any wrong formula
            k1 = rate(s, y)
            k2 = rate(s + h / 2, y + h * k1 / 2)
            k3 = rate(s + h / 2, y + h * k2 / 2)
            k4 = rate(s + h, y + h * k3)
            y, s = y + h * (k1 + 2 * k2 + 2 * k3 + k4) / 6, s + h
    flow = FlowMap(DISJOINT, 0, w, t_min=0.5 * np.log1p(0.09))
    assert flow.map(xi) == pytest.approx(float(y), abs=2e-6)


@pytest.mark.parametrize(
    "w, offsets, mean, sd, above",
    [
        (0, [0.990, 0.950, 0.750, 0.500, 0.250, 0.0100], 1.49998, 0.28868, 0.1000),
        (1, [0.7537, 0.6561, 0.4522, 0.2815, 0.1347, 5.14e-3], None, None, 0.18744),
        (3, [0.3725, 0.2957, 0.1747, 0.09796, 0.04291, 1.44e-3], 1.88210, 0.09140, 0.50807),
        (7, [0.08789, 0.06078, 0.02864, 0.01363, 5.13e-3, 1.30e-4], None, None, 0.99559),
        (15, [4.67e-3, 2.59e-3, 8.62e-4, 3.196e-4, 9.42e-5, 1.43e-6], 1.99932, 0.00097, 1.0),
        (30, [1.66e-5, 6.62e-6, 1.35e-6, 3.503e-7, 7.3e-8, 5e-10], None, None, 1.0),
    ],
)
def test_two_intervals_have_their_known_numbers(w, offsets, mean, sd, above):
    """Offsets from the far end, computed elsewhere from the level that the noised class law gives to the path."""
    flow = FlowMap(DISJOINT, 0, float(w))
    assert 2 - flow.quantile(np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.99])) == pytest.approx(offsets, rel=6e-3)
    assert 1 - flow.cdf(1.9) == pytest.approx(above, abs=2e-5)
    if mean is not None:
        assert [flow.mean(), flow.variance() ** 0.5] == pytest.approx([mean, sd], abs=6e-6)


@pytest.mark.parametrize(
    "p, w, u, x, error",
    [
        (UNBALANCED, 0, 0.5, 1.5, 1e-3), (UNBALANCED, 1, 0.5, 1.505, 1e-3), (UNBALANCED, 10, 0.5, 1.546, 1e-3),
        (UNBALANCED, 30, 0.5, 1.623, 1e-3),
        (NESTED, 1, 0.01, -0.2917, 1e-4), (NESTED, 3, 0.01, -0.0596, 1e-4), (OVERLAP, 1, 0.5, 1.11224, 1e-5),
        (OVERLAP, 10, 0.5, 1.98961, 1e-5),
    ],
)
def test_other_supports_have_their_known_quantiles(p, w, u, x, error):
    assert FlowMap(p, 0, w).quantile(u) == pytest.approx(x, abs=error)


@pytest.mark.parametrize("p", [DISJOINT, TWO])
def test_no_guidance_gives_the_class(p):
    flow, inside = FlowMap(p, 0, 0.0, initial="class"), p.given(0)
    u, (low, high) = np.linspace(0.02, 0.98, 9), (inside.lows[:, 0], inside.highs[:, 0])
    x = flow.quantile(u)
    closed = (inside.weights * np.clip((x[:, None] - low) / (high - low), 0, 1)).sum(1)
    assert closed == pytest.approx(u, abs=1e-9)
    assert flow.log_density(x) == pytest.approx(inside.log_prob(x[:, None]), abs=1e-7)
    assert [flow.mean(), flow.variance()] == pytest.approx([inside.mean()[0], inside.cov()[0, 0]], abs=1e-8)
    assert flow.entropy() == pytest.approx(-(inside.weights * np.log(inside.weights / (high - low))).sum(), abs=1e-7)
    near = high.max() - np.array([1e-9, 4e-9])  # within the noise at which the map is continued by its limit
    assert flow.log_density(near) == pytest.approx(inside.log_prob(near[:, None]), abs=2e-4)
    assert flow.cdf(near) == pytest.approx(1, abs=1e-8)
    assert flow.expect(lambda x: np.exp(inside.log_prob(x[:, None]))) == pytest.approx((inside.weights**2 / (high - low)).sum(), rel=1e-7)


@pytest.mark.parametrize("p, w", [(DISJOINT, 8.0), (OVERLAP, 2.0), (TOUCHING, 4.0), (NESTED, 2.0)])
def test_map_inverse_and_density_agree(p, w):
    flow, h = FlowMap(p, 0, w), 1e-5
    xi = np.array([-2.0, -0.7, 0.1, 1.3])
    x = flow.map(xi)
    slope = (flow.map(xi + h) - flow.map(xi - h)) / (2 * h)
    assert flow.inverse(x) == pytest.approx(xi, abs=1e-6)
    assert flow.log_density(x) == pytest.approx(-0.5 * xi**2 - 0.5 * np.log(2 * np.pi) - np.log(slope), abs=2e-5)
    low, high = p.lows[0, 0], p.highs[0, 0]
    assert np.all((low <= x) & (x <= high))
    assert np.all(flow.cdf(np.array([low - 1, low, high, high + 1])) == [0, 0, 1, 1]) and flow.density(np.array([high + 0.1]))[0] == 0


def test_symmetric_worlds_have_mirrored_maps():
    flipped = UniformMixture(-DISJOINT.highs, -DISJOINT.lows)
    u = np.array([0.05, 0.5, 0.8])
    assert FlowMap(flipped, 0, 3.0).quantile(1 - u) == pytest.approx(-FlowMap(DISJOINT, 0, 3.0).quantile(u), abs=1e-10)
    assert FlowMap(MIDDLE, 0, 3.0).quantile(0.5) == pytest.approx(0, abs=1e-12)
    # Two targets: half of the starts go to each, and nothing in between.
    ends = FlowMap(UniformMixture([[-2.0], [1.0]], [[-1.0], [2.0]], labels=[0, 0]), 0, 0.0)
    assert ends.quantile(np.array([0.25, 0.4999, 0.5001])) == pytest.approx([-1.5, -1.0002, 1.0002], abs=1e-7)
    assert ends.cdf(np.array([-0.9, 0.3, 0.9])) == pytest.approx([0.5, 0.5, 0.5], abs=1e-9)


def test_target_in_the_middle_collapses_to_a_point():
    flow = FlowMap(ASYMMETRIC, 0, 30.0)
    x = flow.quantile(np.array([0.01, 0.5, 0.99]))
    assert np.ptp(x) < 1e-6 and abs(x[1]) < 0.5
    assert flow.mean() == pytest.approx(x[1], abs=1e-6)
    narrow = [FlowMap(ASYMMETRIC, 0, w).entropy() for w in (0.0, 3.0)]
    assert narrow[0] > narrow[1] > flow.entropy() > -50


def test_entropy_is_refused_where_outputs_are_rounded_to_an_end():
    flow = FlowMap(DISJOINT, 0, 100.0)
    assert flow.quantile(0.5) == pytest.approx(2.0, abs=1e-12) and flow.mean() == pytest.approx(2.0, abs=1e-9)
    with pytest.raises(RuntimeError, match="crowd"):
        flow.entropy()


def test_early_stopping_noised_data_and_schedules():
    process = OU()
    stop = 0.5 * np.log1p(0.01**2)  # tau = 0.01
    early, late = FlowMap(DISJOINT, 0, 7.0, t_min=stop), FlowMap(DISJOINT, 0, 7.0)
    # In support at the end iff the rest of the level is more than tau / sqrt(2 pi): 0.7946 of the paths.
    assert early.cdf(2.0 * process.alpha(stop)) == pytest.approx(0.7946, abs=1e-4)
    assert late.map(0.3) == pytest.approx(FlowMap(DISJOINT, 0, 7.0, t_min=1e-16).map(0.3), abs=1e-7)
    noisy = DISJOINT.noised(1.0, 0.3)
    wide = FlowMap(noisy, 0, 0.0, initial="class")
    x = np.array([0.6, 1.2, 2.3])
    assert wide.log_density(x) == pytest.approx(noisy.given(0).log_prob(x[:, None]), abs=1e-8)
    # A uniform law and a fine comb of Gaussians under more noise than the teeth are apart.
    teeth = np.arange(-0.5 + 1 / 60, 0.5, 1 / 30)
    comb = GaussianMixture(np.concatenate([1.5 + teeth, -1.5 + teeth])[:, None], covs=1e-4, labels=np.repeat([0, 1], 30))
    smooth, toothed = (FlowMap(p, 0, 3.0, t_min=0.05).quantile(np.array([0.1, 0.6])) for p in (DISJOINT, comb))
    assert smooth == pytest.approx(toothed, abs=1e-3)
    switch = FlowMap(DISJOINT, 0, lambda t: 3.0 if t > 1 else 0.0)
    assert FlowMap(DISJOINT, 0, 0.0).quantile(0.5) < switch.quantile(0.5) < FlowMap(DISJOINT, 0, 3.0).quantile(0.5)


def test_other_oracles_need_noise_at_the_end():
    square = UniformMixture([[1.0, 0.0], [-2.0, 0.0]], [[2.0, 1.0], [-1.0, 1.0]])
    xi = np.array([[0.3, -0.2], [-1.0, 0.4]])
    with pytest.raises(ValueError, match="t_min > 0"):
        exact.push(square, 0, 3.0, xi)
    x, log_det = exact.push(square, 0, 3.0, xi, t_min=0.02)
    sides = [FlowMap(DISJOINT, 0, 3.0, t_min=0.02), FlowMap(UniformMixture([[0.0]], [[1.0]]), 0, 0.0, t_min=0.02)]
    assert x == pytest.approx(np.stack([side.map(z) for side, z in zip(sides, xi.T)], 1), abs=1e-7)
    flat = sum(side.log_density(side.map(z)) for side, z in zip(sides, xi.T))
    assert -0.5 * (xi**2).sum(1) - np.log(2 * np.pi) - log_det == pytest.approx(flat, abs=1e-6)
    with pytest.raises(ValueError, match="t_min > 0"):
        exact.FokkerPlanck(DISJOINT, 0, 0.0)
    law = exact.FokkerPlanck(DISJOINT, 0, 0.0, t_min=0.05, cells=300, steps=100)
    assert law.mean() == pytest.approx(1.5 * np.exp(-0.05), abs=1e-3)
