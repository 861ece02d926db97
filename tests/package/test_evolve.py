"""`exact.evolve` and `exact.improvement` against other solvers, closed forms and each other."""
import numpy as np
import pytest
from scipy.integrate import simpson

from guidance import OU, VE, VP, GaussianMixture, UniformMixture, cfg, exact


def law(weights, means, sds, labels):
    return GaussianMixture(np.array(means, float)[:, None], weights, np.array(sds, float)[:, None] ** 2, labels)


TWO = law([0.3, 0.25, 0.45], [-1.2, 1.5, 0.4], [0.7, 0.5, 0.8], [0, 0, 1])
NARROW = law([0.2, 0.3, 0.5], [-1.0, 0.5, 1.2], [0.05, 0.1, 0.6], [0, 0, 1])
FAR = law([0.4, 0.6], [-8.0, 9.0], [1.0, 1.5], [0, 1])
HEAVY = law([0.1, 0.5, 0.4], [0.0, 2.0, -1.0], [0.3, 2.0, 0.8], [0, 1, 0])  # Var(1 / p) is infinite


def inverse(p, label, process, w=0.0):
    """1 / p_t(label | x) and the rate at which guidance lowers its mean."""

    def observe(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        noisy, inside = p.noised(alpha, sigma), p.given(label).noised(alpha, sigma)
        m, pull = np.exp(-noisy.log_posterior(x, label)), inside.score(x) - noisy.score(x)
        return np.stack([m, w * float(process.diffusion(t)) ** 2 * m * pull[:, 0] ** 2])

    return observe


def moments(x, t):
    return np.stack([x[:, 0], x[:, 0] ** 2])


@pytest.mark.parametrize("p, label", [(TWO, 0), (TWO, 1)])
@pytest.mark.parametrize("process", [OU(), VP()], ids=["OU", "VP"])
def test_unguided_inverse_confidence_stands_still(p, label, process):
    times, means = exact.evolve(p, label, cfg(p, label, 0.0, process), inverse(p, label, process), process=process)
    np.testing.assert_allclose(means[0], 1 / p.prior(label), rtol=1e-5)
    assert times[0] == process.default_T and times[-1] == 0 and np.all(np.diff(times) < 0) and len(times) % 2 == 1


@pytest.mark.parametrize("process", [OU(0.5), VE()], ids=["OU", "VE"])
def test_unguided_moments_are_those_of_the_noised_class(process):
    times, (mean, square) = exact.evolve(TWO, 0, cfg(TWO, 0, 0.0, process), moments, process=process)
    inside = TWO.given(0)
    first = float(inside.weights @ inside.means[:, 0])
    second = float(inside.weights @ (inside.means[:, 0] ** 2 + inside.covs.variances[:, 0]))
    alpha, sigma = process.alpha(times), process.sigma(times)
    scale = np.sqrt(alpha**2 * second + sigma**2)
    np.testing.assert_allclose(mean / scale.max(), alpha * first / scale.max(), atol=2e-5)
    np.testing.assert_allclose(square / scale.max() ** 2, (scale / scale.max()) ** 2, atol=2e-5)


def test_a_wrong_linear_score_has_the_moments_of_its_own_equation():
    # dY = (Y + 2 (1 - 2 Y)) dtau + sqrt(2) dB = (2 - 3 Y) dtau + sqrt(2) dB, from N(0, 1).
    times, (mean, square) = exact.evolve(TWO, 0, lambda x, t: 1 - 2 * x, moments, T=2.0, initial="normal")
    tau = 2.0 - times
    expected = 2 / 3 * (1 - np.exp(-3 * tau))
    np.testing.assert_allclose(mean, expected, atol=2e-5)
    np.testing.assert_allclose(square - mean**2, np.exp(-6 * tau) + (1 - np.exp(-6 * tau)) / 3, atol=3e-5)


@pytest.mark.parametrize("w", [2.0, lambda t: 3 * np.exp(-2 * t)], ids=["2", "w(t)"])
def test_direct_sums_agree_with_improvement_and_with_the_law(w):
    process = OU()
    strength = w if callable(w) else lambda t: w
    observe = lambda x, t: inverse(TWO, 0, process, strength(t))(x, t)
    times, (mean, rate) = exact.evolve(TWO, 0, cfg(TWO, 0, w, process), observe)
    u = np.sqrt(times)
    found = exact.improvement(TWO, 0, w)
    law = exact.FokkerPlanck(TWO, 0, w, initial="class", cells=200, steps=60)
    direct = law.expect(lambda x: -TWO.log_posterior(x[:, None], 0), log=True)
    assert found.start == pytest.approx(1 / 0.55, rel=1e-7)
    assert mean[-1] == pytest.approx(found.mean, rel=1e-5)
    assert direct == pytest.approx(found.mean, rel=1e-5)
    assert -simpson(2 * u * rate, x=u) == pytest.approx(found.loss, rel=1e-4)
    assert found.mean == pytest.approx(found.start - found.loss, rel=1e-5)


@pytest.mark.parametrize("p, label", [(NARROW, 0), (FAR, 0), (HEAVY, 0)], ids=["narrow", "far", "heavy"])
def test_the_formula_holds_for_narrow_far_and_heavy_laws(p, label):
    mean, start, loss = exact.improvement(p, label, 1.0)
    assert start == pytest.approx(1 / p.prior(label), rel=1e-6)
    assert mean == pytest.approx(start - loss, abs=1e-5)
    assert 1 <= mean < start


def test_minus_one_is_the_unconditional_run():
    # E over p of 1 / p(c | X), by quadrature: a strength below zero raises the mean.
    mild = law([0.5, 0.25, 0.25], [0.0, -1.0, 1.0], [1.0, 1.0, 1.0], [0, 1, 1])
    x = np.linspace(-15, 15, 30_001)[:, None]
    expected = np.exp(mild.log_prob(x) - mild.log_posterior(x, 0)).sum() * 0.001
    mean, start, loss = exact.improvement(mild, 0, -1.0)
    assert mean == pytest.approx(expected, rel=1e-4) and loss < 0 and start - loss == pytest.approx(mean, rel=1e-5)


def test_jumps_of_w_noise_at_the_end_other_processes_and_the_start_from_noise():
    window = lambda t: 3.0 * (t < 0.5)
    for options in (dict(breaks=(0.5,)), dict(process=VE(), t_min=0.1, breaks=(0.5,)), dict(T=1.0, initial="normal")):
        mean, start, loss = exact.improvement(TWO, 0, window, **options)
        assert mean == pytest.approx(start - loss, abs=2e-5)
    x = np.linspace(-10, 10, 20_001)[:, None]
    noisy = TWO.noised(OU().alpha(1.0), OU().sigma(1.0))
    expected = np.exp(-(x[:, 0] ** 2) / 2 - noisy.log_posterior(x, 0)).sum() * 0.001 / np.sqrt(2 * np.pi)
    assert start == pytest.approx(expected, rel=1e-5)
    times, means = exact.evolve(TWO, 0, cfg(TWO, 0, window, OU()), lambda x, t: x[:, 0], breaks=(0.5,))
    assert 0.5 in np.round(times, 12) and means.shape == times.shape
    assert means[-1] == pytest.approx(exact.FokkerPlanck(TWO, 0, window, initial="class", breaks=(0.5,), cells=200).mean(), abs=1e-5)


def test_what_no_mesh_can_know_is_refused():
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises((RuntimeError, ValueError), match="improvement|mesh"):
        exact.evolve(HEAVY, 0, cfg(HEAVY, 0, 0.0, OU()), lambda x, t: inverse(HEAVY, 0, OU())(x, t)[0])
    with pytest.raises(RuntimeError, match="still change|mesh"):
        exact.evolve(TWO, 0, cfg(TWO, 0, 0.0, OU()), lambda x, t: 1.0 * (x[:, 0] > 0.37), tolerance=1e-9, cells=60, steps=10)
    with pytest.raises(RuntimeError, match="mesh"):
        exact.evolve(TWO, 0, lambda x, t: 10 * x, lambda x, t: x[:, 0])


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(p=GaussianMixture(np.zeros((2, 2)), [0.5, 0.5], 1.0, [0, 1])), "one-dimensional"),
        (dict(label=7), "label"),
        (dict(score=1.0), "score must be a function"),
        (dict(observe=None), "observe must be a function"),
        (dict(score=lambda x, t: x[:, 0]), "score must return"),
        (dict(score=lambda x, t: x * np.nan), "score must return"),
        (dict(observe=lambda x, t: x), "observe must return"),
        (dict(observe=lambda x, t: x[:, 0] * np.nan), "observe must return"),
        (dict(T=0.5, t_min=0.5), "t_min < T"),
        (dict(initial="noise"), "initial"),
        (dict(breaks=(11.0,)), "breaks"),
        (dict(tolerance=0.0), "tolerance"),
        (dict(cells=3), "cells"),
        (dict(steps=10.5), "steps"),
        (dict(p=UniformMixture(np.array([[-1.0], [0.0]]), np.array([[0.0], [1.0]]), [0.5, 0.5], [0, 1])), "UniformMixture"),
    ],
)
def test_bad_input_of_evolve(change, message):
    good = dict(p=TWO, label=0, score=lambda x, t: -x, observe=lambda x, t: x[:, 0])
    with pytest.raises(ValueError, match=message):
        exact.evolve(**{**good, **change})


@pytest.mark.parametrize("change", [dict(w=-2.0), dict(w="1"), dict(w=lambda t: np.nan), dict(label=5), dict(tolerance=np.inf), dict(t_min=11.0)])
def test_bad_input_of_improvement(change):
    with pytest.raises((ValueError, TypeError)):
        exact.improvement(**{**dict(p=TWO, label=0, w=1.0), **change})
