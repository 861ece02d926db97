"""The oracles against closed forms, independent integrators, numbers computed elsewhere, and identities that must hold."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.integrate import solve_ivp
from scipy.special import expit, log_ndtr, ndtr

from guidance import exact, fokker_planck
from guidance.exact import FlowMap, FokkerPlanck
from guidance.mixtures import GaussianMixture
from guidance.process import OU, VE, VP

PAIR = GaussianMixture(np.array([[1.0], [-1.0]]))
UNEVEN = GaussianMixture(np.array([[1.0], [0.0], [-6.0]]), np.array([1.0, 1.0, 10.0]) / 12)
TRIANGLE = GaussianMixture(np.array([[3**0.5 / 2, 0.5], [-(3**0.5) / 2, 0.5], [0.0, -1.0]]))
RIDGE = GaussianMixture(np.array([[0.0], [-1.0], [1.0]]), np.array([0.5, 0.25, 0.25]), labels=np.array([0, 1, 1]))
MANY = GaussianMixture(
    np.array([-3, 2.5, -1.5, 0.5, 4.5, -4.5, 1.5])[:, None], np.array([0.15, 0.15, 0.09, 0.12, 0.09, 0.24, 0.16]),
    np.array([0.6, 0.7, 0.7, 0.8, 0.7, 0.7, 0.75]) ** 2, np.array([0, 0, 1, 1, 1, 2, 2]),
)
HALF = dict(process=OU(0.5), initial="class")


def posterior(p, label):
    return lambda x: p.posterior(x[:, None], label)


def miss(p, label):
    return lambda x: -np.expm1(p.log_posterior(x[:, None], label))


def log_inverse(p, label):
    return lambda x: -p.log_posterior(x[:, None], label)


@st.composite
def mixtures(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    K = int(rng.integers(2, 7))
    labels = np.append([0, 1], rng.integers(0, 3, K - 2))
    sd = np.exp(rng.uniform(np.log(0.1), np.log(1.5), (K, 1)))
    return GaussianMixture(rng.uniform(-3, 3, (K, 1)), rng.dirichlet(np.full(K, 3.0)), sd**2, labels)


# --- the flow on a line ---


def test_flow_against_an_independent_equation_for_unit_variances():
    """dx/dr = mu_y + w sum_y' q_y' (mu_y - mu_y') in r = exp(-t), solved by another method."""
    means, weights = np.array([1.0, 0.0, -6.0]), np.array([1.0, 1.0, 10.0]) / 12

    def rate(r, x):
        logs = np.log(weights)[:, None] + r * means[:, None] * x - r**2 * means[:, None] ** 2 / 2
        q = np.exp(logs - logs.max(0))
        return -3.0 * (q / q.sum(0) * means[:, None]).sum(0)

    for start in (-2.0, 0.3, 2.5):
        reference = solve_ivp(rate, (np.exp(-10), 1), [start], method="Radau", rtol=1e-11, atol=1e-12).y[0, -1]
        assert FlowMap(UNEVEN, 1, 3.0).map(np.array([start]))[0] == pytest.approx(reference, abs=3e-9)


def test_flow_against_arbitrary_precision():
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(20):
        path = mpmath.odefun(lambda r, x: 1 + 2 * mpmath.mpf(3) / (1 + mpmath.exp(2 * r * x)), mpmath.exp(-10), mpmath.mpf("-0.7"))
        reference = float(path(1))
    assert FlowMap(PAIR, 0, 3.0).map(np.array([-0.7]))[0] == pytest.approx(reference, abs=1e-11)


@pytest.mark.parametrize(
    "w, mean, variance, entropy, miss_mean, log_negative",
    [
        (0, 0.99995460, 1.0, 1.41893853, 0.2248100, np.log(0.1586662)),
        (1, 1.61247348, 0.58025780, 1.13718834, 7.979938e-2, np.log(9.170811e-3)),
        (3, 2.34837513, 0.35550070, 0.86950774, 1.565449e-2, np.log(8.085268e-10)),
        (10, 3.76698095, 0.22561903, 0.64239780, 7.800616e-4, np.log(1.926e-90)),
        (30, 5.99294513, 0.17831729, 0.54015443, 8.559442e-6, -1813.9),
        (100, 10.26305047, 0.15955097, 0.49521953, 1.640745e-9, -20035.8),
    ],
)
def test_flow_of_two_classes_has_its_known_numbers(w, mean, variance, entropy, miss_mean, log_negative):
    flow = FlowMap(PAIR, 0, w)
    assert [flow.mean(), flow.variance(), flow.entropy()] == pytest.approx([mean, variance, entropy], abs=6e-9)
    assert flow.expect(miss(PAIR, 0)) == pytest.approx(miss_mean, rel=2e-7)
    assert log_ndtr(flow.inverse(np.zeros(1)))[0] == pytest.approx(log_negative, rel=3e-5, abs=6e-6)


@pytest.mark.parametrize("w, mean, log_mean, inverse", [(0, 0.596256, -0.594056, 12), (2, 0.442085, -0.843893, 2.40585), (100, 0.904812, -0.100028, 1.10520)])
def test_confidence_falls_when_the_target_lies_between(w, mean, log_mean, inverse):
    flow = FlowMap(UNEVEN, 1, w)
    assert flow.expect(posterior(UNEVEN, 1)) == pytest.approx(mean, abs=1e-6)
    assert flow.expect(lambda x: -log_inverse(UNEVEN, 1)(x)) == pytest.approx(log_mean, abs=1e-6)
    assert flow.expect(log_inverse(UNEVEN, 1), log=True) == pytest.approx(inverse, rel=3e-6)


@pytest.mark.parametrize("w, variance, entropy", [(1, 1.464389, 1.590106), (5, 3.753265, 1.750613), (10, 6.66935, 1.68972)])
def test_entropy_rises_with_unequal_variances(w, variance, entropy):
    flow = FlowMap(GaussianMixture(np.zeros((2, 1)), covs=np.array([1, 0.25])), 0, w)
    assert [flow.variance(), flow.entropy()] == pytest.approx([variance, entropy], abs=2e-6)


@settings(max_examples=4, deadline=None)
@given(mixtures())
def test_unguided_flow_from_the_noised_class_gives_the_class(p):
    flow, inside = FlowMap(p, 0, 0.0, initial="class"), p.given(0)
    assert flow.mean() == pytest.approx(inside.mean()[0], abs=1e-8)
    assert flow.variance() == pytest.approx(inside.cov()[0, 0], rel=1e-8)
    x = np.linspace(-4, 4, 9)
    closed = (inside.weights * ndtr((x[:, None] - inside.means[:, 0]) / np.sqrt(inside.covs.variances[:, 0]))).sum(1)
    assert flow.cdf(x) == pytest.approx(closed, abs=1e-9)
    assert flow.log_density(x) == pytest.approx(inside.log_prob(x[:, None]), rel=1e-7, abs=1e-7)
    assert flow.expect(lambda x: inside.log_prob(x[:, None])) == pytest.approx(-flow.entropy(), abs=1e-8)


@settings(max_examples=4, deadline=None)
@given(mixtures(), st.sampled_from([0.5, 2.0, 10.0]))
def test_guided_density_is_the_derivative_of_the_cdf(p, w):
    flow = FlowMap(p, 0, w)
    u = np.linspace(0.02, 0.98, 7)
    x = flow.quantile(u)
    assert flow.cdf(x) == pytest.approx(u, abs=1e-7)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    grid = flow.quantile(np.linspace(0.001, 0.999, 60))
    half = np.diff(grid)[:, None] / 2
    masses = (flow.density((grid[:-1, None] + half * (1 + nodes)).ravel()).reshape(-1, 12) * weights * half).sum(1)
    assert np.median(np.abs(masses - 0.998 / 59)) < 1e-8
    assert flow.expect(lambda x: np.ones_like(x)) == pytest.approx(1, abs=1e-9)
    probability = flow.expect(lambda z: (z > x[2]).astype(float))
    # A map is right to about 1e-12: where the output is concentrated, a probability is right to that times the density.
    assert probability == pytest.approx(1 - u[2], abs=1e-8 + 1e-12 * flow.density(x[2]))


@settings(max_examples=4, deadline=None)
@given(mixtures(), st.sampled_from([0.0, 1.0, 10.0]))
def test_flow_agrees_with_the_general_one_built_on_the_mixtures_own_score(p, w):
    xi = np.linspace(-3, 3, 13)
    x, log_slope = exact.push(p, 0, w, xi[:, None])
    flow = FlowMap(p, 0, w)
    assert x[:, 0] == pytest.approx(flow.map(xi), rel=1e-7, abs=1e-7)
    assert np.median(np.abs(flow.log_density(x[:, 0]) + xi**2 / 2 + np.log(2 * np.pi) / 2 + log_slope)) < 1e-7


def test_entropy_identity_for_a_common_variance():
    """H_w = H_0 - w int r E Var_q(mean | x_r) dr over the guided path: ours, from the divergence of the field."""
    p, w = GaussianMixture(np.array([[1.0], [-1.0], [0.5]]), np.array([0.5, 0.3, 0.2])), 2.0
    nodes, weights = np.polynomial.legendre.leggauss(20)
    first = np.exp(-10)
    levels, weights = first + (1 - first) * (1 + nodes) / 2, weights * (1 - first) / 2

    def variance_of_means(r):
        law = p.noised(r, np.sqrt(1 - r**2))
        q = lambda x: np.stack([law.posterior(x[:, None], k) for k in range(3)])
        return FlowMap(p, 0, w, t_min=-np.log(r)).expect(lambda x: p.means[:, 0] ** 2 @ q(x) - (p.means[:, 0] @ q(x)) ** 2)

    loss = w * sum(weight * r * variance_of_means(r) for r, weight in zip(levels, weights))
    assert FlowMap(p, 0, 0).entropy() - FlowMap(p, 0, w).entropy() == pytest.approx(loss, abs=1e-8)


@pytest.mark.parametrize("process, T, t_min", [(OU(), 1.0, 0.0), (OU(0.5), 2.0, 0.1), (VP(), 0.6, 0.0), (VE(), 3.0, 0.2)])
def test_one_gaussian_in_every_process_is_linear(process, T, t_min):
    m, v = 1.5, 0.3
    p, xi = GaussianMixture(np.array([[m]]), covs=v), np.array([-2.0, 0.0, 1.0])
    a, b = process.alpha(T), process.alpha(t_min)
    early, late = a**2 * v + process.sigma(T) ** 2, b**2 * v + process.sigma(t_min) ** 2
    scale = max(1, process.sigma(T))
    flow = FlowMap(p, 0, 5.0, T, process, t_min)
    assert flow.map(xi) == pytest.approx(b * m + np.sqrt(late / early) * (scale * xi - a * m), abs=1e-9)
    assert flow.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * late / early * scale**2), abs=1e-9)
    # The reverse SDE draws x_t_min from the exact conditional law given x_T, whatever the law of x_T.
    slope = (a / b) * late / early
    law = FokkerPlanck(p, 0, 5.0, T, process, t_min)
    assert law.mean() == pytest.approx(b * m - slope * a * m, abs=1e-6)
    assert law.variance() == pytest.approx(late - slope**2 * early + slope**2 * scale**2, rel=3e-6)
    assert law.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * law.variance()), abs=3e-6)


def test_clocks_do_not_matter():
    same = [FlowMap(PAIR, 0, 2.0), FlowMap(PAIR, 0, 2.0, 20.0, OU(0.5)), FlowMap(PAIR, 0, 2.0, VP().time(OU().angle(10.0)), VP())]
    assert np.ptp([flow.mean() for flow in same]) < 1e-9


def test_a_limited_interval_is_stepped_on_exactly():
    low, high, strength, xi = 0.3, 1.2, 4.0, np.array([-1.0, 0.5])
    rate = lambda on: lambda r, x: 1 + 2 * on * expit(-2 * r * x)
    x = xi
    for start, stop, on in ((np.exp(-10), np.exp(-high), 0), (np.exp(-high), np.exp(-low), strength), (np.exp(-low), 1, 0)):
        x = solve_ivp(rate(on), (start, stop), x, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    interval = lambda t: strength * (low < t < high)
    assert FlowMap(PAIR, 0, interval).map(xi) == pytest.approx(x, abs=1e-8)
    assert FlowMap(PAIR, 0, interval, breaks=(low, high)).map(xi) == pytest.approx(x, abs=1e-8)
    assert exact.push(PAIR, 0, interval, xi[:, None])[0][:, 0] == pytest.approx(x, abs=1e-8)
    smooth = FlowMap(PAIR, 0, lambda t: strength)
    assert smooth.map(xi) == pytest.approx(FlowMap(PAIR, 0, strength).map(xi), abs=1e-9)


def test_narrow_components_far_apart():
    p = GaussianMixture(np.array([[-10.0], [10.0], [9.0], [0.0]]), covs=np.array([0.02, 0.02, 1.0, 0.5]) ** 2, labels=np.array([0, 0, 1, 1]))
    flow = FlowMap(p, 0, 0.0, initial="class")
    assert [flow.mean(), flow.variance()] == pytest.approx([0.0, 100.0004], abs=1e-6)
    assert flow.entropy() == pytest.approx(np.log(2) + 0.5 * np.log(2 * np.pi * np.e) + np.log(0.02), abs=1e-8)


def test_inverse_confidence_of_the_unguided_flow_is_one_over_the_prior():
    for p, label in ((PAIR, 0), (RIDGE, 1), (MANY, 0)):
        flow = FlowMap(p, label, 0.0, **HALF)
        assert flow.expect(log_inverse(p, label), log=True) == pytest.approx(1 / p.prior(label), rel=1e-8)


# --- several dimensions ---


@pytest.mark.parametrize(
    "w, golden",
    [
        (1, [2.4805910, -1.7294387, 0.7641058, 0.6502564, 0.78830204, -0.2718805]),
        (10, [1.6941758, -4.4773393, 0.4795970, 0.2308390, 0.99647393, -0.0035350]),
    ],
)
def test_triangle_has_its_known_numbers(w, golden):
    f = lambda x: np.column_stack([x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, TRIANGLE.posterior(x, 2), TRIANGLE.log_posterior(x, 2)])
    mean, first, second, confidence, log_confidence = exact.expect(TRIANGLE, 2, w, f)
    found = [exact.entropy(TRIANGLE, 2, w), mean, first, second - mean**2, confidence, log_confidence]
    assert found == pytest.approx(golden, abs=2e-7)


def test_log_density_inverts_push_and_log_det_is_the_volume():
    p = GaussianMixture(np.array([[1.0, 0.0], [-1.0, 0.5]]), covs=np.array([[[1.0, 0.4], [0.4, 0.5]], [[0.3, 0.0], [0.0, 0.8]]]))
    xi, step = np.array([[0.3, -0.4], [1.0, 1.2], [-1.5, 0.2]]), 1e-4
    x, log_det = exact.push(p, 0, 2.0, xi)
    columns = [(exact.push(p, 0, 2.0, xi + s)[0] - exact.push(p, 0, 2.0, xi - s)[0]) / (2 * step) for s in step * np.eye(2)]
    assert np.linalg.slogdet(np.stack(columns, axis=2))[1] == pytest.approx(log_det, abs=1e-6)
    assert exact.log_density(p, 0, 2.0, x) == pytest.approx(-(xi**2).sum(1) / 2 - np.log(2 * np.pi) - log_det, abs=1e-8)
    grid = np.linspace(-5, 5, 17)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    assert np.exp(exact.log_density(TRIANGLE, 2, 0.5, points)).sum() * (grid[1] - grid[0]) ** 2 == pytest.approx(1, abs=1e-3)


def test_three_dimensions_separate_into_one():
    p = GaussianMixture(np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    rest = 0.5 * np.log(2 * np.pi * np.e) * 2
    assert exact.entropy(p, 0, 0.5, tolerance=1e-3) == pytest.approx(FlowMap(PAIR, 0, 0.5).entropy() + rest, abs=1e-5)


# --- the reverse SDE ---


@pytest.mark.parametrize(
    "w, mean, variance, entropy, miss_mean",
    [
        (1, 1.481578, 0.672050, 1.214576, 0.1060497),
        (3, 1.933637, 0.536289, 1.094261, 4.430244e-2),
        (10, 2.527695, 0.486564, 1.043349, 1.375698e-2),
        (30, 3.091285, 0.479953, 1.036066, 4.5305e-3),
        (100, 3.70570, 0.48135, 1.03736, 1.3406e-3),
    ],
)
def test_reverse_sde_of_two_classes_has_its_known_numbers(w, mean, variance, entropy, miss_mean):
    law = FokkerPlanck(PAIR, 0, w)
    assert [law.mean(), law.variance(), law.entropy()] == pytest.approx([mean, variance, entropy], abs=8e-6)
    assert law.expect(miss(PAIR, 0)) == pytest.approx(miss_mean, rel=3e-5)
    assert law.error < 1e-4


@pytest.mark.parametrize(
    "p, label, w, inverse, confidence",
    [(RIDGE, 0, 1, 1.85903, 0.55549), (RIDGE, 1, 4, 1.55194, 0.68580), (MANY, 0, 0.5, 1.72181, 0.67940), (MANY, 0, 4, 1.29646, 0.77748)],
)
def test_reverse_sde_lowers_inverse_confidence_by_known_amounts(p, label, w, inverse, confidence):
    law = FokkerPlanck(p, label, w, **HALF)
    assert law.expect(log_inverse(p, label), log=True) == pytest.approx(inverse, rel=6e-5)
    assert law.expect(posterior(p, label)) == pytest.approx(confidence, rel=5e-5)
    assert law.inverse_confidence() == pytest.approx(law.expect(log_inverse(p, label), log=True), rel=1e-6)


@settings(max_examples=3, deadline=None)
@given(mixtures())
def test_unguided_reverse_sde_gives_the_class_and_the_martingale(p):
    law, inside = FokkerPlanck(p, 0, 0.0, initial="class"), p.given(0)
    assert law.mean() == pytest.approx(inside.mean()[0], abs=1e-5)
    assert law.variance() == pytest.approx(inside.cov()[0, 0], rel=1e-5)
    x = np.linspace(-3, 3, 7)
    closed = (inside.weights * ndtr((x[:, None] - inside.means[:, 0]) / np.sqrt(inside.covs.variances[:, 0]))).sum(1)
    assert law.cdf(x) == pytest.approx(closed, abs=1e-5)
    assert law.density(x) == pytest.approx(np.exp(inside.log_prob(x[:, None])), abs=1e-3)
    assert law.inverse_confidence() == pytest.approx(1 / p.prior(0), rel=1e-5)


def test_reverse_sde_quantiles_invert_its_cdf():
    law, u = FokkerPlanck(MANY, 0, 2.0), np.array([0.001, 0.2, 0.5, 0.99])
    assert law.cdf(law.quantile(u)) == pytest.approx(u, abs=1e-9)
    assert law.density(np.array([-1e3, 1e3])).tolist() == [0, 0]


# --- what is refused ---


def test_bad_input_names_the_argument():
    flow = FlowMap(PAIR, 0, 1.0)
    for call, message in (
        (lambda: FlowMap(TRIANGLE, 0, 1.0), "one-dimensional"),
        (lambda: FlowMap(PAIR, 7, 1.0), "label"),
        (lambda: FlowMap(PAIR, 0, -2.0), "w must be"),
        (lambda: FlowMap(PAIR, 0, lambda t: np.nan), "w.t. must"),
        (lambda: FlowMap(PAIR, 0, 1.0, t_min=11.0), "t_min"),
        (lambda: FlowMap(PAIR, 0, 1.0, initial="other"), "initial"),
        (lambda: flow.map(np.array([1, 2])), "xi must be floating"),
        (lambda: flow.cdf(np.array([[1]])), "x must be floating"),
        (lambda: flow.cdf(np.array([np.nan])), "x must be finite"),
        (lambda: flow.quantile(np.array([0.0])), "u must be in"),
        (lambda: flow.expect(lambda x: 1.0), "f must return"),
        (lambda: exact.push(TRIANGLE, 0, 1.0, np.zeros((3, 1))), "xi must be"),
        (lambda: exact.log_density(TRIANGLE, 0, 1.0, np.zeros((3, 3))), "x must be"),
        (lambda: exact.entropy(GaussianMixture(np.zeros((1, 4))), 0, 1.0), "d <= 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_is_not_known_well_enough_is_refused():
    with pytest.raises(RuntimeError, match="tails"):
        FlowMap(PAIR, 0, 0.0).expect(lambda x: 0.51 * x**2, log=True)
    with pytest.raises(RuntimeError, match="not finite"):
        FlowMap(PAIR, 0, 0.0).expect(lambda x: np.where(x > 1, np.inf, 0.0))
    with pytest.raises(RuntimeError, match="f jumps"):
        FokkerPlanck(PAIR, 0, 1.0).expect(lambda x: (x > 1).astype(float))
    with pytest.raises(RuntimeError, match="raise cells or steps"):
        FokkerPlanck(PAIR, 0, 1.0, cells=20, steps=8).mean()


# --- corners ---


def test_components_of_probability_zero_change_nothing():
    means, variances = np.array([[1.0], [-1.0], [0.4], [2.0]]), np.array([0.5, 1.0, 0.1, 0.2])
    p = GaussianMixture(means, np.array([0.3, 0.7, 0.0, 0.0]), variances, np.array([0, 1, 0, 1]))
    q, xi = GaussianMixture(means[:2], np.array([0.3, 0.7]), variances[:2]), np.array([-1.0, 0.2, 1.5])
    with np.errstate(divide="raise"):
        assert FlowMap(p, 0, 2.0).map(xi) == pytest.approx(FlowMap(q, 0, 2.0).map(xi), abs=1e-10)
        assert exact.push(p, 0, 2.0, xi[:, None])[0] == pytest.approx(exact.push(q, 0, 2.0, xi[:, None])[0], abs=1e-10)


@pytest.mark.parametrize("process, T, t_min", [(OU(), 1.0, 0.0), (VE(), 3.0, 0.2)])
def test_one_gaussian_in_the_plane_is_pushed_linearly(process, T, t_min):
    m, v, xi = np.array([1.5, -0.5]), 0.3, np.array([[0.0, 0.0], [1.0, -2.0]])
    p, a, b = GaussianMixture(m[None], covs=v), process.alpha(T), process.alpha(t_min)
    scale, slope = max(1, process.sigma(T)), np.sqrt((b**2 * v + process.sigma(t_min) ** 2) / (a**2 * v + process.sigma(T) ** 2))
    x, log_det = exact.push(p, 0, 5.0, xi, T, process, t_min)
    assert x == pytest.approx(b * m + slope * (scale * xi - a * m), abs=1e-9)
    assert log_det == pytest.approx(np.full(2, 2 * np.log(slope * scale)), abs=1e-9)
    assert exact.log_density(p, 0, 5.0, x, T, process, t_min) == pytest.approx(-(xi**2).sum(1) / 2 - np.log(2 * np.pi) - log_det, abs=1e-8)


def test_named_breaks_are_stepped_on_where_an_interval_is_too_short_to_be_found():
    low, high, strength, xi = 0.5, 0.5004, 500.0, np.array([-1.0, 0.5])
    rate = lambda on: lambda r, x: 1 + 2 * on * expit(-2 * r * x)
    x = xi
    for start, stop, on in ((np.exp(-10), np.exp(-high), 0), (np.exp(-high), np.exp(-low), strength), (np.exp(-low), 1, 0)):
        x = solve_ivp(rate(on), (start, stop), x, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    assert FlowMap(PAIR, 0, lambda t: strength * (low < t < high), breaks=(low, high)).map(xi) == pytest.approx(x, abs=1e-8)
    assert np.abs(FlowMap(PAIR, 0, 0.0).map(xi) - x).max() > 0.05


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: FlowMap(PAIR, 0, lambda t: np.inf), ValueError, "w.t. must"),
        (lambda: FlowMap(PAIR, 0, np.inf), ValueError, "w must be"),
        (lambda: FlowMap(PAIR, 0, np.array([1.0, 2.0])), ValueError, "w must be"),
        (lambda: FlowMap(PAIR, 0, 1.0, t_min=-0.5), ValueError, "0 <= t_min"),
        (lambda: FlowMap(PAIR, 0, 1.0, T=np.inf), ValueError, "T=inf"),
        (lambda: FlowMap(PAIR, 0, 1.0).quantile(np.array([1.0])), ValueError, "u must be in"),
        (lambda: exact.push(TRIANGLE, 0, 1.0, np.zeros((3, 2)), initial="class"), ValueError, "needs d = 1"),
        (lambda: exact.expect(GaussianMixture(np.zeros((1, 4))), 0, 1.0, lambda x: x), ValueError, "d <= 3"),
        (lambda: FlowMap(PAIR, 0, 1.0).expect(lambda x: np.where(x > 2, np.nan, 0.0), log=True), RuntimeError, "log f is infinite or NaN"),
        (lambda: FlowMap(PAIR, 0, 0.0).expect(lambda x: np.sin(1e7 * x)), RuntimeError, "only known to"),
        (lambda: FokkerPlanck(PAIR, 0, 1.0, cells=6, steps=8).inverse_confidence(), RuntimeError, "raise cells or steps"),
        (lambda: exact.expect(PAIR, 0, 1.0, lambda x: (x[:, 0] > 0.1).astype(float)), RuntimeError, "does not settle"),
    ],
)
def test_a_run_or_a_mean_that_cannot_be_had_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numbers_and_arrays_of_any_shape_come_back_as_they_went_in():
    flow, law = FlowMap(PAIR, 0, 1.0), FokkerPlanck(PAIR, 0, 1.0, cells=100, steps=40)
    for oracle in (flow, law):
        assert np.ndim(oracle.quantile(0.5)) == 0 and oracle.cdf(np.zeros((2, 3))).shape == (2, 3)
        assert oracle.cdf(oracle.quantile(0.3)) == pytest.approx(0.3, abs=1e-6)
        assert oracle.density(1) == oracle.density(np.array([1.0]))[0]
    assert flow.map(np.zeros((4, 1))).shape == (4, 1)


def test_extrapolation_removes_the_second_and_the_fourth_power_of_the_mesh():
    values = [3.0 + 0.7 * h**2 - 0.4 * h**4 for h in (1.0, 0.5, 0.25)]
    assert fokker_planck._richardson(values) == pytest.approx(3.0, abs=1e-14)
    assert fokker_planck._richardson([3.0 + 0.7 * h**2 for h in (1.0, 0.5)]) == pytest.approx(3.0, abs=1e-14)


def test_a_flow_that_would_not_end_is_refused(monkeypatch):
    monkeypatch.setattr(exact, "MOST_CALLS", 50)
    with pytest.raises(RuntimeError, match="more than 50 evaluations"):
        exact.push(TRIANGLE, 0, 1.0, np.zeros((3, 2)))
