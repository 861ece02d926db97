"""The checks of Part III against answers found another way, and the hints for the likeliest mistakes."""
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr

import guidance as g
from guidance import exact
from guidance.checks import find

T, PROCESS = 10.0, g.OU()
PAIR = g.GaussianMixture([[1.0], [-1.0]], covs=1.0, labels=[1, 0])
BOXES = g.UniformMixture([[1.0], [-2.0]], [[2.0], [-1.0]], labels=[1, 0])
ANGLES = PROCESS.times(40, T=T, spacing="angle")


def hint(number, answer):
    return find(number).judge(answer)


def flow_mean(w):
    nodes, share = np.polynomial.hermite_e.hermegauss(40)
    ends = g.sample(g.cfg(PAIR, 1, w, PROCESS), PROCESS, nodes[:, None], ANGLES, "rk4")
    return share @ ends[:, 0] / share.sum()


def sde_mean(w):
    """From d(m) = (1 + w (1 - tanh m)) d(rho) + d(beta), by the law of an Euler chain, extrapolated."""
    x = np.linspace(-7, 9, 1201)

    def chain(steps):
        d = 1 / steps
        kernel = np.exp(-((x[:, None] - x - d * (1 + w * (1 - np.tanh(x)))) ** 2) / (2 * d))
        kernel *= (x[1] - x[0]) / np.sqrt(2 * np.pi * d)
        law = kernel[:, 525] / kernel[:, 525].sum()  # from x[525] = 0
        for _ in range(steps - 1):
            law = kernel @ law
        return law @ x

    return 2 * chain(100) - chain(50)


def tilt_mean(w):
    x = np.linspace(-12, 14, 4001)
    f = np.exp(-((x - 1) ** 2) / 2 - w * np.log1p(np.exp(-2 * x)))
    return f @ x / f.sum()


def divergence(t, w, size):
    return (1 + w) / 2 * (1 - np.exp(-2 * t)) * size**2


def relaxed(noise):
    """The mean before and after 400 Langevin steps at w = 3, as the exercise describes them."""
    rng, h = np.random.default_rng(1), 0.02
    score = g.cfg(PAIR, 1, 3.0, PROCESS)
    x = g.sample(score, PROCESS, rng.standard_normal((4000, 1)), ANGLES, "heun")
    before = x.mean()
    for _ in range(400):
        x = x + h * score(x, 0.0) + noise * np.sqrt(h) * rng.standard_normal(x.shape)
    return [before, x.mean()]


def box_median(low, high, w, t=0.4):
    """The median's distance to the edge: the missing level at t of a path that Runge-Kutta carries there."""
    p = g.UniformMixture([[low], [-high]], [[high], [-low]], labels=[1, 0])
    times = PROCESS.times(60, T=T, t_min=t, spacing="angle")
    x = float(g.sample(g.cfg(p, 1, w, PROCESS), PROCESS, np.zeros((1, 1)), times, "rk4")[0, 0])
    points = np.linspace(low, high, 20_001)
    return (high - low) * np.trapezoid(ndtr(-(x - np.exp(-t) * points) / np.sqrt(1 - np.exp(-2 * t))), points) / (high - low)


def growth(variance, w=2e4):
    """The limit of x_0 / sqrt(w) of the path from 0, extrapolated from w and 4 w; class variance over a rival of variance one."""
    p = g.GaussianMixture([[1.0], [-1.0]], covs=np.array([[variance], [1.0]]), labels=[1, 0])
    first, second = (float(exact.FlowMap(p, 1, v, T=25.0).map(0.0)) / np.sqrt(v) for v in (w, 4 * w))
    return 2 * second - first


def test_negative_strength():
    truth = np.array([f(-0.5) for f in (flow_mean, sde_mean, tilt_mean)])
    assert hint("9.1", truth) is None
    assert hint("9.1", truth.round(3)) is None
    assert "another order" in hint("9.1", truth[::-1])
    assert "+1/2" in hint("9.1", [f(0.5) for f in (flow_mean, sde_mean, tilt_mean)])
    assert "means of the class" in hint("9.1", [1, 1, 1])
    assert "number 1, 3" in hint("9.1", truth + [0, 0.1, 0])


def test_constant_divergence():
    assert hint("9.2", divergence) is None
    assert "Kullback" in hint("9.2", lambda t, w, size: divergence(t, 0, size))
    assert "in the place of 1 + w" in hint("9.2", lambda t, w, size: divergence(t, w - 1, size))
    assert "Divide by w" in hint("9.2", lambda t, w, size: w * divergence(t, w, size))
    assert "half" in hint("9.2", lambda t, w, size: 2 * divergence(t, w, size))
    assert "sigma squared" in hint("9.2", lambda t, w, size: (1 + w) / 2 * np.sqrt(1 - np.exp(-2 * t)) * size**2)
    assert "alpha^2" in hint("9.2", lambda t, w, size: (1 + w) / 2 * np.exp(-2 * t) * size**2)
    assert "does not depend on t" in hint("9.2", lambda t, w, size: (1 + w) / 2 * size**2)
    assert "wrong, for example at" in hint("9.2", lambda t, w, size: 1.0)
    assert "returns NaN or infinity at t = " in hint("9.2", lambda t, w, size: np.nan)


def test_langevin():
    before, after = relaxed(np.sqrt(2))
    assert hint("9.5", [before, after]) is None
    assert "other order" in hint("9.5", [after, before])
    assert "Whose is it" in hint("9.5", [before, before])
    assert "plain class" in hint("9.5", [before, 1.0])
    assert "does not sample the tilt" in hint("9.5", [after, after])
    assert "1 + w" in hint("9.5", [flow_mean(4.0), tilt_mean(4.0)])
    assert "Without the noise" in hint("9.5", relaxed(0.0))
    assert "with the 2" in hint("9.5", relaxed(1.0))
    assert "number 1" in hint("9.5", [before, 0.0])


def test_wider_box():
    distance = box_median(0.5, 4.0, 10.0)
    truth = np.array([2.25 * 11, distance, distance / 3.5])
    assert hint("10.1", truth) is None
    assert hint("10.1", [float(f"{x:.3g}") for x in truth]) is None
    assert "aim: this is what w" in hint("10.1", [22.5, *truth[1:]])
    assert "U[1, 2]" in hint("10.1", [16.5, *truth[1:]])
    assert "median itself" in hint("10.1", truth * [1, 0, 1] + [0, 4 - distance, 0])
    assert "not by 4" in hint("10.1", truth * [1, 1, 3.5 / 4])
    both = hint("10.1", [22.5, distance, distance])
    assert "aim:" in both and "fraction: this is the distance itself" in both
    assert "number 1, 2" in hint("10.1", truth * [1, 1, 3])


def test_wide_target():
    truth = growth(4.0)
    assert hint("10.4", truth) is None
    assert hint("10.4", float(f"{truth:.3g}")) is None
    assert "limit of u" in hint("10.4", truth / 2)
    assert "equal variances" in hint("10.4", growth(1.0))
    assert "The stretch is right" in hint("10.4", 2 * growth(1.0))
    assert "not by the variance" in hint("10.4", 2 * truth)
    at_hundred = g.GaussianMixture([[1.0], [-1.0]], covs=np.array([[4.0], [1.0]]), labels=[1, 0])
    assert "at a finite w" in hint("10.4", float(exact.FlowMap(at_hundred, 1, 100.0, T=T).map(0.0)) / 10)
    assert "Scale as in the chapter" in hint("10.4", 1.0)


def test_vanishing_density():
    truth = growth(1.0) ** 2 / 4
    assert hint("10.5", truth) is None
    assert hint("10.5", round(truth, 3)) is None
    assert "bounded below" in hint("10.5", 2 * truth)
    assert "square of the distance" in hint("10.5", 4 * truth)
    assert "Sign" in hint("10.5", -truth)
    assert "measurement" in hint("10.5", 0.24)
    assert "Write 1 - F_0" in hint("10.5", 0.1)


def test_half_outside():
    def strength(distance):  # at which the median of a finished run is this far from the edge
        stop = float(PROCESS.time(np.arctan(1e-5)))
        away = lambda w: 2 - float(exact.FlowMap(BOXES, 1, w, T=T, t_min=stop).map(0.0))
        return brentq(lambda w: np.log(away(w) / distance), 2.0, 9.0, xtol=1e-2)

    truth = strength(0.03 / np.sqrt(2 * np.pi))
    assert hint("11.1", truth) is None
    assert hint("11.1", round(truth, 1)) is None
    assert "1 + w" in hint("11.1", truth + 1)
    assert "at the distance tau" in hint("11.1", strength(0.03))
    assert "do not multiply" in hint("11.1", strength(0.03 * np.sqrt(2 * np.pi)))
    assert "a little below" in hint("11.1", 7.0)
    assert "Half are outside" in hint("11.1", 30.0)


def test_pull_left():
    truth = np.array([0.9 / 0.02, 0.9 - 5 * 0.02, 0.9 + 5 * 0.02])
    assert hint("11.2", truth) is None
    assert "The first is 1 + w" in hint("11.2", truth + [1, 0, 0])
    assert "The first is nearly it" in hint("11.2", [50, 0.8, 1.0])
    assert "other order" in hint("11.2", truth[[0, 2, 1]])
    assert "1 + w in the place of w" in hint("11.2", [45, 0.78, 1.02])
    assert "w = 0 is unguided" in hint("11.2", [45, 0.82, 0.98])
    assert "by delta_c" in hint("11.2", [50, 0.9, 1.1])
    assert "number 1" in hint("11.2", [45, 0, 0])


def test_shrinking_margin():
    assert hint("11.3", -0.5) is None
    assert hint("11.3", np.log(0.63 / 0.32) / np.log(0.05 / 0.2)) is None  # from the table of the solution
    assert "Sign" in hint("11.3", 0.5)
    assert "does not stay" in hint("11.3", 0)
    assert "mean square" in hint("11.3", -1)
    assert "two things" in hint("11.3", 1)
    assert "Compute the error" in hint("11.3", 3.0)


@pytest.mark.parametrize("number", ["9.1", "9.2", "9.5", "10.1", "10.4", "10.5", "11.1", "11.2", "11.3"])
@pytest.mark.parametrize("answer", ["right", None, [1.0, np.nan]])
def test_another_kind_of_answer_is_refused(number, answer):
    with pytest.raises(ValueError, match="must|could not"):
        hint(number, answer)
