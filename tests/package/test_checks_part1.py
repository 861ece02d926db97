"""The checks of Part I: right answers from closed forms pass, and each likely mistake gets the hint meant for it."""
import numpy as np
import pytest

from guidance.checks import find

E10 = np.exp(10.0)


def shrink(x, m, v, alpha, sigma):
    total = alpha**2 * v + sigma**2
    return (v * alpha * x + m * sigma**2) / total, 1 / (1 / v + alpha**2 / sigma**2)


def with_wrong_denoiser(formula):
    return lambda *args: (formula(*args), shrink(*args)[1])


def with_wrong_variance(formula):
    return lambda *args: (shrink(*args)[0], formula(*args))


def pull(x, alpha):
    return 2 * alpha / (1 + np.exp(2 * alpha * x))


def walk(h, n):
    limit = 1 / (1 - h / 2)
    return limit + (1 - h) ** (2 * n) * (1 - limit)


def guided_length(e, phi, w):
    return e * np.sqrt(1 + 2 * w * (1 + w) * (1 - np.cos(phi)))


def ring_error():
    # The score of the noised ring by hand, averaged over its own components with Gauss-Hermite nodes.
    turn = np.pi * np.arange(8) / 4
    centres, total = 1.6 * np.stack([np.cos(turn), np.sin(turn)], axis=1), 0.64 * 0.05 + 0.36
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    plane, weight = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2), np.outer(weight, weight).ravel() / weight.sum() ** 2
    x = (centres[:1] + np.sqrt(total) * plane)[:, None]  # by symmetry one component will do
    q = np.exp(-((x - centres) ** 2).sum(-1) / (2 * total))
    s = ((q / q.sum(1, keepdims=True))[..., None] * (centres - x)).sum(1) / total
    return 0.36 / 0.64 * (2 - 0.36 * weight @ (s**2).sum(1))


def pair_floor(t):
    # s = -x + a tanh(a x) for the noised pair, under one of its two components, by symmetry.
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    a = np.exp(-t)
    x = z + a
    return 1 / (1 - a**2) - weight @ (x - a * np.tanh(a * x)) ** 2 / weight.sum()


def pair_flow(w):
    # dx/dr = 1 + w (1 - tanh(r x)) from r = exp(-10) to 1 by classical Runge-Kutta, and the moments of its end.
    z, weight = np.polynomial.legendre.leggauss(120)
    xi = 9 * z
    weight = 9 * weight * np.exp(-xi**2 / 2) / np.sqrt(2 * np.pi)

    def slope(r, x, d):
        tangent = np.tanh(r * x)
        return 1 + w * (1 - tangent), -w * r * (1 - tangent**2) * d

    x, d, steps = xi, np.ones_like(xi), 400
    r, h = 1 / E10, (1 - 1 / E10) / steps
    for _ in range(steps):
        a = slope(r, x, d)
        b = slope(r + h / 2, x + h / 2 * a[0], d + h / 2 * a[1])
        c = slope(r + h / 2, x + h / 2 * b[0], d + h / 2 * b[1])
        e = slope(r + h, x + h * c[0], d + h * c[1])
        x, d = (y + h / 6 * (p + 2 * q + 2 * s + u) for y, p, q, s, u in zip((x, d), a, b, c, e))
        r += h
    entropy = np.log(2 * np.pi * np.e) / 2 + weight @ np.log(d)
    return np.array([weight @ x, entropy, weight @ (1 / (1 + np.exp(-2 * x)))])


CHANGE = pair_flow(3.0) - pair_flow(2.0)
FLOOR = pair_floor(1.0)
RING = ring_error()
KAPPA = (1 - np.exp(-1.8)) / (1 - np.exp(-2.0)) * (1 - np.exp(-0.2))  # kappa_1 squared from t = 1 to 0.9

RIGHT = [
    ("1.1", lambda a, b: np.arccos(np.cos(a) * np.cos(b))),
    ("1.1", lambda a, b: np.arctan(np.sqrt((1 + np.tan(a) ** 2) * (1 + np.tan(b) ** 2) - 1))),
    ("1.2", [5.025, np.log(1 + 80**2) / 2, np.sqrt(E10**2 - 1)]),
    ("1.2", (5.025, 4.382, 22030)),
    ("1.4", -6),
    ("1.4", -6.013),  # fitted on t = 1, 1.5, 2
    ("1.5", np.sqrt(1.5) - 1),
    ("1.5", 0.225),
    ("2.1", shrink),
    ("2.2", np.sqrt(1.95)),
    ("2.2", 1.40),
    ("2.5", RING),
    ("2.5", 0.661),  # 100,000 draws
    ("2.6", pull),
    ("2.6", lambda x, alpha: alpha * (1 - np.tanh(alpha * x))),
    ("3.3", 4 / E10**2),
    ("3.3", 8.2e-9),
    ("3.4", walk),
    ("3.5", KAPPA / 0.2),
    ("3.5", 0.875),
    ("3.6", [E10**2, 1]),
    ("3.6", (4.9e8, 1.0)),
    ("4.1", FLOOR),
    ("4.1", 0.276),
    ("4.2", guided_length),
    ("4.2", lambda e, phi, w: e * abs(1 + w - w * np.exp(1j * phi))),
    ("4.5", lambda theta: np.tan(theta) ** 2),
    ("5.1", lambda a, b: a + b + a * b),
    ("5.1", lambda a, b: (1 + a) * (1 + b) - 1),
    ("5.2", [0, 2]),
    ("5.2", np.array([0.004, 1.99])),
    ("5.3", CHANGE),
    ("5.3", [0.3216, -0.1, 0.0164]),
    ("5.6", ("early", "late")),
    ("5.6", ["Early", " late "]),
]

WRONG = [
    ("1.1", lambda a, b: a + b, "angles do not"),
    ("1.1", lambda a, b: np.cos(a) * np.cos(b), "cosine of the angle"),
    ("1.1", lambda a, b: np.degrees(np.arccos(np.cos(a) * np.cos(b))), "in degrees"),
    ("1.1", lambda a, b: np.arcsin(np.sin(a) * np.sin(b)), "multiplies the noise"),
    ("1.1", lambda a, b: np.sqrt(a * b), "signal that is left"),
    ("1.1", lambda a, b: None, "does it end with return?"),
    ("1.1", lambda a, b: float("nan"), "returns NaN or infinity at first = "),
    ("1.2", [10.05, 4.382, 22026.5], "VP at 1: This is the integral of the rate"),
    ("1.2", [5.025, np.log(6401), 22026.5], "VE at 80: A square root is missing"),
    ("1.2", [5.025, 4.382, np.exp(20)], "OU at 10: A square root is missing"),
    ("1.2", [5.025, 4.382, 1.0], "sigma alone"),
    ("1.2", [3.0, 4.382, 22026.5], "VP at 1: Match the angle"),
    ("1.4", 6, "grow or fall"),
    ("1.4", -3, "how does the chi-square depend"),
    ("1.4", -2, "Compute the mean"),
    ("1.4", -4, "Compute the variance"),
    ("1.4", -8, "symmetric"),
    ("1.4", -5, "He_1"),
    ("1.5", 0.5, "compares variances"),
    ("1.5", (np.sqrt(1.5) - 1) ** 2, "square of W_2"),
    ("1.5", np.sqrt(3) - np.sqrt(2), "two rates"),
    ("1.5", np.sqrt(3) - 1, "not g squared"),
    ("1.5", 0, "is the limit N(0, 1)"),
    ("2.1", with_wrong_denoiser(lambda x, m, v, a, s: (x + s**2 * (x - a * m) / (a**2 * v + s**2)) / a), "sign of the score"),
    ("2.1", with_wrong_denoiser(lambda *args: args[3] * shrink(*args)[0]), "divide by alpha"),
    ("2.1", with_wrong_denoiser(lambda x, m, v, a, s: m + v / (v + s**2) * (x - m)), "The denoiser: This is right only for alpha = 1"),
    ("2.1", with_wrong_denoiser(lambda x, m, v, a, s: x), "Tweedie"),
    ("2.1", with_wrong_variance(lambda *args: np.sqrt(shrink(*args)[1])), "standard deviation"),
    ("2.1", with_wrong_variance(lambda x, m, v, a, s: a**2 * v + s**2), "variance of x_t"),
    ("2.1", with_wrong_variance(lambda x, m, v, a, s: s**2 / a**2 * (1 + s**2 / (a**2 * v + s**2))), "is negative"),
    ("2.1", with_wrong_variance(lambda x, m, v, a, s: v), "The denoiser is right. The posterior variance: Differentiate"),
    ("2.1", lambda *args: shrink(*args)[0], "must return an array of shape (2,); at x = "),
    ("2.2", np.sqrt(2), "width of their own"),
    ("2.2", np.sqrt(1.95 / 2.95), "This is sigma"),
    ("2.2", 1 / np.sqrt(1.95), "alpha over sigma"),
    ("2.2", 1.95, "square of the ratio"),
    ("2.2", 1.0, "slope there"),
    ("2.5", RING / 2, "one coordinate"),
    ("2.5", RING * 0.64 / 0.36, "noise prediction"),
    ("2.5", np.sqrt(RING), "root of"),
    ("2.5", 1.125, "raw guess"),
    ("2.5", 0.5, "Draw x_0"),
    ("2.6", lambda x, a: -pull(x, a), "sign is wrong"),
    ("2.6", lambda x, a: -2 * a / (1 + np.exp(-2 * a * x)), "class 0"),
    ("2.6", lambda x, a: 2 * a * np.exp(2 * a * x) / (1 + np.exp(2 * a * x)) ** 2, "not of its logarithm"),
    ("2.6", lambda x, a: a / (1 + np.exp(2 * a * x)), "A factor is missing"),
    ("2.6", lambda x, a: 2 / (1 + np.exp(2 * x)), "clean points"),
    ("2.6", lambda x, a: 0.0, "log-odds"),
    ("3.3", 2, "variance of the data"),
    ("3.3", 1, "variance of the start"),
    ("3.3", 2 / E10, "standard deviation"),
    ("3.3", 1 / E10**2, "equally large"),
    ("3.3", 0, "not zero"),
    ("3.3", 1e-6, "no noise is drawn"),
    ("3.4", lambda h, n: 1 / (1 - h / 2), "limit of many steps"),
    ("3.4", lambda h, n: np.sqrt(walk(h, n)), "standard deviation"),
    ("3.4", lambda h, n: walk(h, n - 1), "too few"),
    ("3.4", lambda h, n: walk(h, n + 1), "too many"),
    ("3.4", lambda h, n: (1 - (1 - h) ** (2 * n)) / (1 - h / 2), "has variance 1, not 0"),
    ("3.4", lambda h, n: 2 + (1 - h) ** n * (1 - 2), "do to the variance"),
    ("3.4", lambda h, n: h, "repeat it n times"),
    ("3.5", KAPPA, "divide it by"),
    ("3.5", np.sqrt(KAPPA / 0.2), "square root of the ratio"),
    ("3.5", (1 - np.exp(-0.2)) / 0.2, "noise of the forward step"),
    ("3.5", KAPPA / 0.1, "divides by h alone"),
    ("3.5", (1 - np.exp(-2.0)) / (1 - np.exp(-2.2)) * (1 - np.exp(-0.2)) / 0.2, "from 1.1 to 1"),
    ("3.5", 0.5, "u = 0.9"),
    ("3.6", [1, E10**2], "wrong order"),
    ("3.6", [E10, 1], "The wrong sign: One of two terms"),
    ("3.6", [1 / E10**2, 1], "forwards in time"),
    ("3.6", [E10**3, 1], "reverse SDE"),
    ("3.6", [E10**2, 1 / E10], "The right sign: This is the drift of the reverse SDE"),
    ("3.6", [E10**2, 2], "What remains"),
    ("4.1", 0, "not zero"),
    ("4.1", FLOOR * (1 - 1 / np.e**2), "noise prediction"),
    ("4.1", pair_floor(0.5), "t = 0.5"),
    ("4.1", 1 / (1 - np.exp(-2)) - FLOOR, "mean square of the score"),
    ("4.1", 1 - 1 / (1 - np.exp(-2)) + FLOOR, "is not 1"),
    ("4.1", 5.0, "formula for C"),
    ("4.2", lambda e, phi, w: guided_length(e, phi, w) ** 2, "square of the length"),
    ("4.2", lambda e, phi, w: e * abs(1 + w + w * np.exp(1j * phi)), "A sign is wrong"),
    ("4.2", lambda e, phi, w: guided_length(e, phi, w - 1), "g in the place of w"),
    ("4.2", lambda e, phi, w: (1 + 2 * w) * e, "This is the bound"),
    ("4.2", lambda e, phi, w: guided_length(1, phi, w), "length e"),
    ("4.2", lambda e, phi, w: e, "difference of two vectors"),
    ("4.5", lambda theta: np.tan(theta), "rate of the lengths"),
    ("4.5", lambda theta: 1 / np.tan(theta) ** 2, "upside down"),
    ("4.5", lambda theta: np.sin(theta) ** 2, "predicts the noise"),
    ("4.5", lambda theta: np.sin(theta) ** 4 / np.cos(theta) ** 2, "predicts the clean point"),
    ("4.5", lambda theta: theta, "then square it"),
    ("5.1", lambda a, b: a + b, "a term is missing"),
    ("5.1", lambda a, b: (1 + a) * (1 + b), "This is the scale g"),
    ("5.1", lambda a, b: a * b, "only one of them"),
    ("5.1", lambda a, b: a, "multiple of the classifier gradient"),
    ("5.2", [-1, 1], "other class"),
    ("5.2", [1, 1], "the class itself"),
    ("5.2", [0, np.sqrt(2)], "standard deviation"),
    ("5.2", [0.5594, 1.4209], "w = -0.5"),
    ("5.2", [0, 1], "two parts"),
    ("5.2", [7, 7], "Whose score"),
    ("5.3", -CHANGE, "signs are reversed"),
    ("5.3", pair_flow(4.0) - pair_flow(3.0), "w = 4 against w = 3"),
    ("5.3", pair_flow(3.0) - pair_flow(0.0), "no guidance"),
    ("5.3", pair_flow(3.0), "values of your run"),
    ("5.3", [CHANGE[0], -CHANGE[1], CHANGE[2]], "number 1, 3. Translate g = 3"),
    ("5.6", ("late", "early"), "Neither"),
    ("5.6", ("late", "late"), "The entropy is right"),
    ("5.6", ("early", "early"), "The mean is right"),
]

NO_NUMBER, NO_FUNCTION = (None, "six", True, float("nan"), [1.0, 2.0]), (None, 1.0, "shrink")
WRONG_KIND = [(number, answer) for number in ("1.4", "1.5", "2.2", "2.5", "3.3", "3.5", "4.1") for answer in NO_NUMBER]
WRONG_KIND += [(number, answer) for number in ("1.1", "2.1", "2.6", "3.4", "4.2", "4.5", "5.1") for answer in NO_FUNCTION]
WRONG_KIND += [(number, answer) for number in ("1.2", "5.3") for answer in (1.0, [1.0, 2.0], [1.0, 2.0, np.inf])]
WRONG_KIND += [(number, answer) for number in ("3.6", "5.2") for answer in (1.0, [1.0, 2.0, 3.0], [1.0, np.nan])]
WRONG_KIND += [("5.6", answer) for answer in ("early", ("early",), ("early", "both"), 1.0, (1, 2))]


@pytest.mark.parametrize("number, answer", RIGHT)
def test_a_right_answer_passes(number, answer):
    assert find(number).judge(answer) is None


@pytest.mark.parametrize("number, answer, part", WRONG)
def test_a_mistake_gets_its_hint(number, answer, part):
    hint = find(number).judge(answer)
    assert hint is not None and part in hint


@pytest.mark.parametrize("number, answer", WRONG_KIND)
def test_another_kind_of_answer_is_refused(number, answer):
    with pytest.raises(ValueError, match="answer must"):
        find(number).judge(answer)


def test_the_global_seed_decides_nothing():
    state = np.random.get_state()[1].copy()
    for number in ("1.1", "2.1", "2.6", "3.4", "4.2"):
        find(number).judge(lambda *args: 0.0)
    assert (np.random.get_state()[1] == state).all()


def test_each_exercise_has_right_wrong_and_odd_answers():
    numbers = {number for number, _ in RIGHT}
    assert numbers == {number for number, _ in WRONG_KIND}
    assert all(sum(number == other for other, *_ in WRONG) >= 3 for number in numbers)
