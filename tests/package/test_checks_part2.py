"""The checks of Part II against answers found another way, and the hints for the likeliest mistakes."""
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

import guidance as g
from guidance import exact
from guidance.checks import find

T, PROCESS = 10.0, g.OU()
R0, GAUSS = np.exp(-T), 0.5 * np.log(2 * np.pi * np.e)
PAIR = g.GaussianMixture([[1.0], [-1.0]], covs=1.0, labels=[1, 0])


def hint(number, answer):
    return find(number).judge(answer)


def sharper(w, m):
    """sigma(1) of exercise 6.3 by the classical Runge-Kutta method."""
    rate = lambda r, s: np.exp(-w * m * r * s) / (1 + np.exp(2 * r * (r - R0)))
    s, steps = 0.0, 2000
    h = (1 - R0) / steps
    for r in R0 + h * np.arange(steps):
        a = rate(r, s)
        b = rate(r + h / 2, s + h / 2 * a)
        c = rate(r + h / 2, s + h / 2 * b)
        s += h / 6 * (a + 2 * b + 2 * c + rate(r + h, s + h * c))
    return s


def gains(w, weights=None):
    """The answer to exercise 6.4 from the sampler, averaged over Gauss-Hermite starts."""
    nodes, share = np.polynomial.hermite_e.hermegauss(40)
    times, out = PROCESS.times(30, T=T, spacing="angle"), []
    for far in (-6.0, -2.0, -1.0):
        p = g.GaussianMixture([[1.0], [0.0], [far]], weights=weights, covs=1.0)
        ends = [g.sample(g.cfg(p, 1, v, PROCESS), PROCESS, nodes[:, None], times, "rk4") for v in (0.0, w)]
        out.append([share @ p.posterior(x, 1) / share.sum() for x in ends])
    return np.array(out).T


def mean_doubt(r, power=1):
    f = lambda x: np.exp(PAIR.noised(r, np.sqrt(1 - r**2)).log_prob(np.array([[x]])))[0] / np.cosh(r * x) ** 2
    return r**power * quad(f, -12, 12)[0]


def entropies(variances, label=0):
    """The answer to exercise 7.3, with the class of each law, from the flow in any dimension."""
    laws = [g.GaussianMixture([[0.0], [c]], covs=np.array([[1.0], [v]])) for c, v in zip((0.0, 1.0), variances)]
    return np.array([exact.entropy(p, label, 1.0, T=T, tolerance=1e-5) for p in laws])


def pull(x, r, a=2.0):
    e = np.exp(-((r * a) ** 2) / 2)
    return 2 * a * e * np.sinh(r * a * x) / (1 + 2 * e * np.cosh(r * a * x))


def splits(w, count):
    """Whether a small start comes back to its size in `count` Euler steps at a = 2, from the steps themselves."""
    x, d, furthest = 1e-3, T / count, 0.0
    for t in PROCESS.times(count, T=T)[:-1]:
        x -= d * w * np.exp(-t) * pull(x, np.exp(-t))
        furthest = max(furthest, abs(x))
    return furthest > 1.0000001e-3


def first_split(count, low, high):
    """The strength of `splits`, in steps of a quarter of a percent."""
    return next(w for w in np.geomspace(low, high, 400) if splits(w, count))


def variance(r, a, outer):
    e = np.exp(-((r * a) ** 2) / 2)
    return 2 * a**2 * outer * e / (1 - 2 * outer + 2 * outer * e)


def multiplier(theta, h, w):
    return np.cos(h) - w * variance(np.cos(theta), 2.0, 1 / 3) * np.sin(theta) * np.cos(theta) * np.sin(h)


def kappa():
    """Where the sum of the logarithms over very many steps vanishes."""
    r = np.exp(-(np.arange(40_000) + 0.5) * T / 40_000)
    total = lambda k: np.log(np.abs(1 - k * r**2 * variance(r, 2.0, 1 / 3))).sum()
    return brentq(total, 5, 9)


def test_polygons():
    assert hint("6.1", [3, 4, 0, 0, 0, 0]) is None
    assert hint("6.1", np.array([3.0, 4, 0, 0, 0, 0])) is None
    assert "right angle" in hint("6.1", [3, 0, 0, 0, 0, 0])
    assert "Count the corners" in hint("6.1", [1, 1, 0, 0, 0, 0])
    assert "Not every polygon" in hint("6.1", [3, 4, 5, 6, 7, 8])
    assert "on a line" in hint("6.1", [2] * 6)
    assert "these are right: number 1, 2, 4, 5, 6" in hint("6.1", [3, 4, 5, 0, 0, 0])


def test_sharper_bound():
    sigma = sharper(100.0, 4.0)
    assert hint("6.3", 400 * sigma) is None
    assert hint("6.3", float(f"{400 * sigma:.4g}")) is None
    assert "sigma(1)" in hint("6.3", sigma)
    assert "factor m" in hint("6.3", 100 * sigma)
    old = quad(lambda r: 400 * np.exp(-400 * r**2) / (1 + np.exp(2 * r * (r - R0))), R0, 1, points=[0.05, 0.2])[0]
    assert "old bound" in hint("6.3", old)
    way = g.sample(g.cfg(PAIR, 1, 100.0, PROCESS), PROCESS, np.zeros((1, 1)), PROCESS.times(200, T=T, spacing="angle"), "rk4")
    assert "exact gain" in hint("6.3", 2 * (float(way[0, 0]) - (1 - R0)))
    assert "|v|^2" in hint("6.3", 200 * sharper(100.0, 2.0))
    assert "1 + w" in hint("6.3", 404 * sharper(101.0, 4.0))
    assert "Solve the equation" in hint("6.3", 12.0)


def test_moving_competitor():
    plain, guided = gains(0.5)
    assert hint("6.4", guided - plain) is None
    assert hint("6.4", np.round(guided - plain, 3)) is None
    assert "Signs" in hint("6.4", plain - guided)
    assert "Subtract" in hint("6.4", guided)
    assert "weights of the chapter" in hint("6.4", np.subtract(*gains(0.5, np.array([1, 1, 10]) / 12)[::-1]))
    assert "This is w = 1" in hint("6.4", np.subtract(*gains(1.0)[::-1]))
    assert "number 2, 3" in hint("6.4", [0.0, *(guided - plain)[1:]])


def test_grey_levels():
    truth = np.linalg.slogdet(np.diag(np.full(64, 127.5)))[1]
    assert hint("7.1", truth) is None
    assert hint("7.1", float(f"{truth:.4g}")) is None
    assert "one pixel" in hint("7.1", truth / 64)
    assert "length 2, not 1" in hint("7.1", 64 * np.log(255.0))
    assert "bits" in hint("7.1", truth / np.log(2))
    assert "Sign" in hint("7.1", -truth)
    assert "What is A" in hint("7.1", 100.0)


def test_information():
    truth = quad(mean_doubt, 1e-9, 1 - 1e-9, epsrel=1e-4)[0]
    assert hint("7.2", truth) is None
    assert hint("7.2", round(truth, 3)) is None
    assert "one component" in hint("7.2", truth + GAUSS)
    assert "bits" in hint("7.2", truth / np.log(2))
    assert "upper bound" in hint("7.2", np.log(2))
    assert "the variance of the pair" in hint("7.2", 0.5 * np.log(2))
    assert "factor r in the integral" in hint("7.2", quad(mean_doubt, 1e-9, 1 - 1e-9, args=(0,), epsrel=1e-4)[0])
    assert "Sign" in hint("7.2", -truth)


def test_rise_or_fall():
    truth = entropies((4.0, 0.25)) - GAUSS
    assert hint("7.3", truth) is None
    assert hint("7.3", [float(f"{x:.3g}") for x in truth]) is None
    assert "Sign" in hint("7.3", -truth)
    assert "Subtract" in hint("7.3", truth + GAUSS)
    as_deviations = [g.GaussianMixture([[0.0], [c]], covs=np.array([[1.0], [v]])) for c, v in ((0.0, 16.0), (1.0, 1 / 16))]
    assert "standard deviations" in hint("7.3", [exact.FlowMap(p, 0, 1.0, T=T).entropy() - GAUSS for p in as_deviations])
    assert "other component" in hint("7.3", entropies((4.0, 0.25), 1) - GAUSS - np.log([2.0, 0.5]))
    assert "number 1" in hint("7.3", truth * [1, -1])


def test_split_strength():
    limit = kappa()
    measured = first_split(70, 40, 60)
    assert hint("8.2", [measured, limit]) is None
    assert hint("8.2", [float(f"{measured:.3g}"), round(limit, 2)]) is None
    r = np.linspace(0.01, 1, 5000)
    peak = 1 / (r**2 * variance(r, 2.0, 1 / 3)).max()
    assert "not yet a split" in hint("8.2", [2 * peak * 7, limit])
    assert "zig-zag" in hint("8.2", [peak * 7, limit])
    assert "limit of short steps" in hint("8.2", [limit * 7, limit])
    assert "d w" in hint("8.2", [measured / 7, limit])
    assert "N = 100" in hint("8.2", [first_split(100, 60, 80), limit])
    assert "|M| > 1" in hint("8.2", [measured, 2 * peak])
    assert hint("8.2", [measured, 7.12]).startswith("w is right. kappa is near")
    assert hint("8.2", [90.0, limit]).startswith("kappa is right")


def test_uneven_variance():
    assert hint("8.3", variance) is None
    assert "three equal weights" in hint("8.3", lambda r, a, outer: variance(r, a, 1 / 3))
    assert "r^2 V" in hint("8.3", lambda r, a, outer: r**2 * variance(r, a, outer))
    assert "numerator" in hint("8.3", lambda r, a, outer: variance(r, a, outer) / 2)
    assert "standard deviation" in hint("8.3", lambda r, a, outer: variance(r, a, outer) ** 0.5)
    assert "each outer class" in hint("8.3", lambda r, a, outer: variance(r, a, (1 - outer) / 2))
    assert "wrong, for example at" in hint("8.3", lambda r, a, outer: r)
    assert "returns nothing at r = " in hint("8.3", lambda r, a, outer: None)
    assert "array of shape (3,)" in hint("8.3", lambda r, a, outer: np.ones(3))


def test_turned_step():
    assert hint("8.4", multiplier) is None
    euler = lambda theta, h, w: 1 - np.log(np.cos(theta - h) / np.cos(theta)) * w * np.cos(theta) ** 2 * variance(np.cos(theta), 2, 1 / 3)
    assert "Euler step" in hint("8.4", euler)
    assert "1 + w" in hint("8.4", lambda theta, h, w: multiplier(theta, h, 1 + w))
    assert "Sign" in hint("8.4", lambda theta, h, w: multiplier(theta, h, -w))
    assert "w = 0" in hint("8.4", lambda theta, h, w: multiplier(theta, h, w) + 1 - np.cos(h))
    small = lambda theta, h, w: np.cos(h) + (multiplier(theta, h, w) - np.cos(h)) * h / np.sin(h)
    assert "no sine" in hint("8.4", small)
    assert "wrong, for example at" in hint("8.4", lambda theta, h, w: 0.0)


@pytest.mark.parametrize("number", ["6.1", "6.3", "6.4", "7.1", "7.2", "7.3", "8.2", "8.3", "8.4"])
@pytest.mark.parametrize("answer", ["right", None, [1.0, np.nan]])
def test_another_kind_of_answer_is_refused(number, answer):
    with pytest.raises(ValueError, match="must|could not"):
        hint(number, answer)
