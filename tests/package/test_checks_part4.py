"""The checks of the exercises in Part IV: right answers from other methods pass, wrong ones get the hint meant for them."""
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from guidance import OU, GaussianMixture, cfg, exact, sample
from guidance.checks import check, find

SANDWICH = GaussianMixture(np.array([[0.0], [-1.0], [1.0]]), [0.5, 0.25, 0.25], 1.0, [0, 1, 1])


def density(x, mean=0.0):
    return np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi)


def inverse(x):  # 1/p(0 | x) on the sandwich
    return 1 + np.exp(-0.5) * np.cosh(x)


def in_class(f):
    return quad(lambda x: density(x) * f(x), -12, 12)[0]


def in_all(f):
    return quad(lambda x: density(x) * inverse(x) / 2 * f(x), -14, 14)[0]


FORWARD, BACKWARD = in_all(lambda x: np.log(inverse(x) / 2)), -in_class(lambda x: np.log(inverse(x) / 2))


def dot(a, b):
    return (a * b).sum(1)


def flow_rate(laplacian, cond, pull, w):
    return -laplacian - dot(cond, pull) + (1 + w) * dot(pull, pull)


def other_drift(uncond, cond, other, w):
    pull = other - uncond
    return dot(pull, pull) + 2 * dot(pull, cond + w * (cond - uncond) - other)


@pytest.mark.parametrize("number, answer", [
    ("12.2", -2 * FORWARD / 0.5),
    ("12.2", -0.190),
    ("12.3", 1.5 + 0.5 * np.cosh(1)),
    ("12.3", np.float64(2.27)),
    ("12.4", lambda q_n, q_2n: 2 * q_2n - q_n),
    ("13.1", lambda s_c, s_o: s_o**2 / (s_o**2 - s_c**2)),
    ("13.1", lambda s_c, s_o: np.array([1 / (1 - (s_c / s_o) ** 2)])),
    ("13.3", (8.1, 17.5)),
    ("13.4", "neither"),
    ("13.4", " Neither"),
    ("14.2", "below"),
    ("14.3", flow_rate),
    ("14.4", other_drift),
    ("14.4", lambda s, c, k, w: -dot(k - s, k - s) + 2 * dot(k - s, c + w * (c - s) - s)),
])
def test_right_answers_pass(number, answer):
    assert find(number).judge(answer) is None


def test_the_slope_is_that_of_the_fokker_planck_equation():
    law = exact.FokkerPlanck(SANDWICH, 0, 1e-3, T=10.0, initial="class", cells=200, steps=60)
    assert find("12.2").judge((law.inverse_confidence() - 2) / 1e-3) is None


def test_the_mean_at_minus_one_is_that_of_the_fokker_planck_equation():
    law = exact.FokkerPlanck(SANDWICH, 0, -1.0, T=10.0, initial="class", cells=200, steps=60)
    assert find("12.3").judge(law.inverse_confidence()) is None


def by_quadrature(N, w, nodes=61):
    # The mean of 1/p after N steps, on Gauss-Hermite nodes of each step and a cubic spline: nothing in common with a matrix.
    from scipy.interpolate import CubicSpline

    process, score = OU(), cfg(SANDWICH, 0, w, OU())
    x, mass = np.polynomial.hermite_e.hermegauss(nodes)
    mass, d, line = mass / mass.sum(), 3.0 / N, np.linspace(-25, 25, 1201)
    value = inverse(line)
    for t in process.times(N, T=3.0)[-2::-1]:
        mean = line + d * (line + 2 * score(line[:, None], t)[:, 0])
        ahead = np.clip(mean[:, None] + np.sqrt(2 * d) * x, -25, 25)
        value = np.exp(CubicSpline(line, np.log(value))(ahead)) @ mass
    start = np.exp(SANDWICH.given(0).noised(process.alpha(3.0), process.sigma(3.0)).log_prob(line[:, None]))
    return start @ value / start.sum()


def test_the_crossings_are_those_of_the_means_taken_backwards():
    found = [brentq(lambda w: by_quadrature(N, w) - 2, low, high, xtol=1e-3) for N, low, high in ((8, 7, 9), (15, 16, 19))]
    assert find("13.3").judge(found) is None


def test_a_law_of_large_numbers_that_comes_late():
    # For exp(-L) of mean 1 with log-normal L the sampled mean is below 1 most of the time, too.
    values = np.exp(3.0 * np.random.default_rng(0).standard_normal((300, 2000)) - 4.5).mean(1)
    assert np.mean(values < 1) > 0.7 and np.median(values) < 0.95


@pytest.mark.parametrize("number, answer, hint", [
    ("12.2", 2 * FORWARD / 0.5, "rise or fall"),
    ("12.2", -2 * BACKWARD / 0.5, "other divergence"),
    ("12.2", -2 * FORWARD, "half of it"),
    ("12.2", -1.0, "Start from the theorem"),
    ("12.3", 2, "the mean at w = 0"),
    ("12.3", in_class(lambda x: inverse(x) ** 2), "another factor"),
    ("12.3", 0.5 * (in_class(lambda x: inverse(x) ** 2) - 4), "squared mean"),
    ("12.3", in_class(lambda x: inverse(x) ** 2) - 4, "variance of 1/p over class 0"),
    ("12.3", 3.1, "another power"),
    ("12.4", lambda a, b: 2 * a - b, "away from the limit"),
    ("12.4", lambda a, b: (4 * b - a) / 3, "1/N^2"),
    ("12.4", lambda a, b: b - a, "difference of the two errors"),
    ("12.4", lambda a, b: (a + b) / 2, "average"),
    ("12.4", lambda a, b: 3 * b - a, "must add up to 1"),
    ("12.4", lambda a, b: None, "return?"),
    ("12.4", lambda a, b: np.nan, "NaN"),
    ("12.4", lambda a, b: "two", "must return one real number"),
    ("12.4", lambda a, b: [a, b], "shape (2,)"),
    ("13.1", lambda s_c, s_o: s_o / (s_o - s_c), "Standard deviations"),
    ("13.1", lambda s_c, s_o: s_c**2 / (s_o**2 - s_c**2), "too small by 1"),
    ("13.1", lambda s_c, s_o: 1 - (s_c / s_o) ** 2, "inverse"),
    ("13.1", lambda s_c, s_o: s_c**2 / (s_c**2 - s_o**2), "exchanged"),
    ("13.1", lambda s_c, s_o: 1.64, "eliminate"),
    ("13.3", [8.14, 8.14 * 15 / 8], "prediction"),
    ("13.3", [8.14, 8.14], "the same"),
    ("13.3", [17.55, 8.14], "exchanged"),
    ("13.3", [8.14, 20.0], "between w = 10"),
    ("13.3", [10.0, 17.55], "between w = 5"),
    ("13.4", "both", "before the move"),
    ("13.4", "fall", "Guidance still drives"),
    ("13.4", "moderate", "Guidance still drives"),
    ("14.2", "about", "enough of them"),
    ("14.2", "above", "typical one"),
    ("14.3", lambda laplacian, cond, pull, w: (1 + 2 * w) * dot(pull, pull), "reverse SDE"),
    ("14.3", lambda *args: -flow_rate(*args), "growing t"),
    ("14.3", lambda laplacian, cond, pull, w: flow_rate(laplacian, cond, pull, w - 1), "1 + w"),
    ("14.3", lambda laplacian, cond, pull, w: flow_rate(0, cond, pull, w), "Laplacian is missing"),
    ("14.3", lambda laplacian, cond, pull, w: flow_rate(laplacian, 2 * cond, pull, w), "twice"),
    ("14.3", lambda laplacian, cond, pull, w: laplacian, "Subtract"),
    ("14.3", lambda laplacian, cond, pull, w: cond, "shape (5, 3)"),
    ("14.4", lambda s, c, k, w: (1 + 2 * w) * dot(k - s, k - s), "guided to k"),
    ("14.4", lambda s, c, k, w: dot(k - s, k - s) + 2 * w * dot(k - s, c - s), "one of class c"),
    ("14.4", lambda s, c, k, w: (other_drift(s, c, k, w) + dot(k - s, k - s)) / 2, "factor 2"),
    ("14.4", lambda s, c, k, w: dot(k - s, k - s) + 2 * dot(k - s, c + w * (c - s) - s), "not with s"),
    ("14.4", lambda s, c, k, w: dot(c - s, c - s), "By how much"),
])
def test_wrong_answers_get_the_hint_meant_for_them(number, answer, hint):
    assert hint in find(number).judge(answer)


def test_the_first_crossing_on_the_way_down_is_recognised():
    low = brentq(lambda w: by_quadrature(8, w) - 2, 0.3, 3, xtol=1e-3)
    assert "way down" in find("13.3").judge([low, 17.55])


@pytest.mark.parametrize("number, answer", [
    ("12.2", "falls"), ("12.2", [-0.19]), ("12.3", None), ("12.3", np.nan), ("12.4", 0.3), ("13.1", 1.64), ("13.3", 8.1),
    ("13.3", [8.1, np.inf]), ("13.4", "no"), ("13.4", True), ("14.2", 0.71), ("14.3", 1.0), ("14.4", "drift"),
])
def test_answers_of_another_kind_are_refused(number, answer):
    with pytest.raises(ValueError, match="answer must"):
        find(number).judge(answer)


@pytest.mark.parametrize("number", ["12.2", "12.3", "12.4", "13.1", "13.3", "13.4", "14.2", "14.3", "14.4"])
def test_no_answer_yet(number, capsys):
    check(number, ...)
    assert capsys.readouterr().out.startswith(f"{number}: no answer yet. Put {find(number).expects} in the place")


def test_the_overlap_of_the_chapter_itself_has_both_troubles():
    # Where the component is not moved, sampled runs lose confidence with guidance: the check's question is not empty.
    overlap = GaussianMixture(np.array([2.6, 2.8, 0.4, 2.8, -2.25, -1.25])[:, None], [0.266, 0.168, 0.266, 0.066, 0.078, 0.156],
                              np.square([0.9, 0.5, 0.3, 0.75, 0.85, 0.3])[:, None], [0, 0, 0, 1, 1, 1])
    process, rng = OU(), np.random.default_rng(0)
    start = overlap.given(0).noised(process.alpha(10.0), process.sigma(10.0)).sample(20_000, rng)[0]
    x = sample(cfg(overlap, 0, 8.0, process), process, start, process.times(150, T=10.0, spacing="angle"), "ddpm", rng)
    plain = overlap.posterior(overlap.given(0).sample(20_000, rng)[0], 0)
    assert overlap.posterior(x, 0).mean() < plain.mean() - 0.01
