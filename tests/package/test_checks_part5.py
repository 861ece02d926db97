"""The checks of the exercises in Part V: right answers from other methods pass, wrong ones get the hint meant for them."""
import numpy as np
import pytest

from guidance import OU, Subspace, optimize, sample
from guidance.checks import check, find

RHO, SIGMA = 1 / 82, 0.1


def optimum(lam, rho=RHO):
    return 6 / (2 + lam / rho)


def reward(s):
    return 10 - (s - 3) ** 2


def multiplier(delta, rho=RHO):
    v = 4 * rho * (3 - optimum(SIGMA**2 / delta, rho)) ** 2
    return (v - 2 * rho * delta) / (v + SIGMA**2)


LEASH = np.log(1000) / 4000  # lambda / L of exercise 17.1


@pytest.mark.parametrize("number, answer", [
    ("15.1", 0.009 / 0.999),
    ("15.1", 0.0090),
    ("15.2", 0.01 * (1 + (np.log(400) - 1) / np.e)),
    ("15.2", 0.028),
    ("15.4", 2.63),
    ("16.2", [reward(optimum(0.02)), multiplier(0.5)]),
    ("16.2", (8.17, 0.776)),
    ("16.3", 201),
    ("16.3", 201.0),
    ("16.5", -0.25),
    ("16.5", -0.24),
    ("17.1", 9 * LEASH**2 / (1 + LEASH) ** 2),
    ("17.1", 2.7e-5),
    ("17.2", 61 * 15 / 256),
    ("17.3", lambda delta, rho, sigma: (delta - sigma**2 / rho) / 4),
    ("18.1", lambda alpha: np.sqrt(1 - alpha**2) / alpha**2),
    ("18.2", lambda leak: 1 + leak**2),
    ("18.3", np.sqrt(41)),
    ("18.3", 6.4),
])
def test_right_answers_pass(number, answer):
    assert find(number).judge(answer) is None


def test_the_floor_is_that_of_the_package_s_field():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    A, v, clock = basis[:, :2], basis[:, 2], OU(0.5)

    def bounded(x, t):
        inside = (x @ A) @ A.T
        return -inside - (x - inside) / max(clock.sigma(t) ** 2, 0.01)

    field = optimize.gradient_guidance(bounded, v, None, clock, beta=1.0)
    end = sample(lambda x, t: 2 * field(x, t), clock, np.zeros((1, 5)), clock.times(400, T=60.0, t_min=1e-6, spacing="log-snr"), "rk8")
    assert find("15.2").judge(float((end @ v)[0])) is None


def test_the_official_mean_is_that_of_a_linear_equation():
    # Along u, with h = 1 - alpha^2 and c = 4: the field is -x / (alpha^2 c + h) + 2 beta (y - |g| kx) |g| k, k = alpha c / (alpha^2 c + h).
    from scipy.integrate import solve_ivp

    def slope(s, m, T=30.0, c=4.0, g=0.1, y=0.4):
        alpha = np.exp(-(T - s) / 2)
        h = 1 - alpha**2
        k = alpha * c / (alpha**2 * c + h)
        beta = alpha**2 / 2 / (alpha**2 * SIGMA**2 + h * (g * k) ** 2)
        return m / 2 - m / (alpha**2 * c + h) + 2 * beta * (y - g * k * m) * g * k

    end = solve_ivp(slope, (0, 30), [0.0], rtol=1e-9, atol=1e-12).y[0, -1]
    assert find("15.4").judge(end) is None


def test_the_plateau_and_the_climb_are_those_of_algorithm_1():
    # Rounds with a very large batch stand in for rounds without noise.
    A = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    theta = (A[:, 0] + 9 * A[:, 5]) / np.sqrt(82)

    def run(theta, rounds, delta):
        return optimize.algorithm_1(
            Subspace(A[:, :2]), lambda x: reward(x @ theta), lambda x: 2 * (3 - x @ theta)[:, None] * theta, rounds=rounds, n=4000,
            method="exact", rng=np.random.default_rng(1), delta=delta, per_sample=False, progress=False).reward_of_mean

    values = run(theta, 100, 0.5)
    assert find("16.2").judge([values[-50:].mean(), multiplier(0.5)]) is None
    # The start of the noisy run is not exactly s = 0 and each of its rounds has an error: a few rounds more or less.
    assert abs(int(np.argmax(run(A[:, 0], 230, 0.05) > 9.9)) - 201) <= 4


def test_own_gradients_pull_back_in_the_chapter_s_draws():
    rng = np.random.default_rng(0)
    A = np.linalg.qr(rng.standard_normal((64, 64)))[0][:, :16]
    z = rng.standard_normal((40_000, 16)) @ A.T
    g = -0.5 * (z - 4) / np.linalg.norm(z - 4, axis=1, keepdims=True)
    assert find("16.5").judge((g * z).sum(1).mean()) is None


def test_the_walk_is_that_of_algorithm_2():
    A = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
    P, theta = A[:, :16] @ A[:, :16].T, A[:, 0]
    ends = np.array([optimize.algorithm_2(
        Subspace(A[:, :16]), lambda x: reward(x @ theta), lambda x: 2 * (3 - x @ theta)[:, None] * theta, rounds=60, n=256, method="exact",
        rng=np.random.default_rng(seed), delta=0.05, per_sample=False, progress=False).means[-1] for seed in range(20)])
    squares = ((ends @ P) ** 2).sum(1) - (ends @ theta) ** 2
    assert abs(squares.mean() - 61 * 15 / 256) < 4 * squares.std() / np.sqrt(20)


def test_the_leak_of_the_noise_by_hand():
    # One direction in the span, one across, and an error e of the derivative of eps in the second, for g = (1, 1).
    alpha, e = 0.6, 0.3
    h = 1 - alpha**2
    inside, across = (1 - h) / alpha, (1 - np.sqrt(h) * (1 / np.sqrt(h) + e)) / alpha
    factor = abs(across / inside) / e
    np.testing.assert_allclose(factor, np.sqrt(h) / alpha**2)


@pytest.mark.parametrize("number, answer, hint", [
    ("15.1", 0.0949, "standard deviation"),
    ("15.1", 0.01, "leaves out"),
    ("15.1", 0.294, "tau for tau^2"),
    ("15.1", 1.1e-4, "nine tenths"),
    ("15.1", 0.5, "solve for h"),
    ("15.2", 0.01 * np.log(400), "left at t = kappa"),
    ("15.2", 0.01, "last stretch"),
    ("15.2", 0, "exact score"),
    ("15.2", 1.0, "closed form down to"),
    ("15.4", 3.20, "theory"),
    ("15.4", 2.137, "doubled field"),
    ("15.4", 4, "sigma is not zero"),
    ("15.4", 2.0, "down to t = 1e-6"),
    ("16.2", [optimum(0.02), multiplier(0.5)], "f_1 there"),
    ("16.2", [reward(optimum(0.2)), 0], "sigma/delta"),
    ("16.2", [reward(optimum(50.0)), 0], "upside down"),
    ("16.2", [reward(optimum(0.02, 1.0)), 0], "lost rho"),
    ("16.2", [multiplier(0.5), reward(optimum(0.02))], "exchanged"),
    ("16.2", [5.0, 0.776], "rho = 1/82"),
    ("16.2", [8.173, -2 * RHO / 0.02], "theorem's rule"),
    ("16.2", [8.173, -multiplier(0.5)], "wrong sign"),
    ("16.2", [8.173, 1.022], "m enters with a minus"),
    ("16.2", [8.173, 0.5], "gradient at s*"),
    ("16.3", 179, "straight climb"),
    ("16.3", 178, "straight climb"),
    ("16.3", 194, "passes 9.8"),
    ("16.3", 202, "count again"),
    ("16.3", 200, "count again"),
    ("16.3", 200.7, "integer"),
    ("16.3", 30, "Iterate the map"),
    ("16.5", 0.25, "which sign"),
    ("16.5", -1.0, "64 dimensions"),
    ("16.5", -0.5, "1/2 is missing"),
    ("16.5", -0.125, "1/2 too many"),
    ("16.5", 0, "fresh sample"),
    ("16.5", -8.0, "|z|^2"),
    ("17.1", 3 * LEASH / (1 + LEASH), "distance"),
    ("17.1", 0.0101, "step of the theorem"),
    ("17.1", 9 * (3 / 4000) ** 2, "natural one"),
    ("17.1", LEASH**2, "share of the first"),
    ("17.1", 0.5, "First the multiplier"),
    ("17.2", 60 * 15 / 256, "count the batches"),
    ("17.2", 61 * 16 / 256, "along e is taken out"),
    ("17.2", 61 * 63 / 256, "span only"),
    ("17.2", np.sqrt(61 * 15 / 256), "root mean square"),
    ("17.2", 61 / 256, "one coordinate"),
    ("17.2", 15 / 256, "How many errors"),
    ("17.3", lambda delta, rho, sigma: np.sqrt((delta - sigma**2 / rho) / 4), "This is epsilon"),
    ("17.3", lambda delta, rho, sigma: delta - sigma**2 / rho, "factor 4"),
    ("17.3", lambda delta, rho, sigma: (delta - sigma**2 / rho) / 2, "factor 2"),
    ("17.3", lambda delta, rho, sigma: (rho * delta - sigma**2) / 4, "times rho"),
    ("17.3", lambda delta, rho, sigma: 10 - (delta - sigma**2 / rho) / 4, "lacks to 10"),
    ("17.3", lambda delta, rho, sigma: (delta - sigma / rho) / 4, "sigma for sigma^2"),
    ("17.3", lambda delta, rho, sigma: delta, "set the factor to -1"),
    ("17.3", lambda delta, rho, sigma: None, "return?"),
    ("18.1", lambda alpha: np.sqrt(1 - alpha**2) / alpha, "for the velocity"),
    ("18.1", lambda alpha: np.sqrt(1 - alpha**2), "part across for the velocity"),
    ("18.1", lambda alpha: (1 - alpha**2) / alpha**2, "h where its root belongs"),
    ("18.1", lambda alpha: 1 / alpha**2, "root of h is missing"),
    ("18.1", lambda alpha: alpha**2 / np.sqrt(1 - alpha**2), "inverse"),
    ("18.1", lambda alpha: 20.0, "Differentiate"),
    ("18.1", lambda alpha: np.nan, "NaN"),
    ("18.2", lambda leak: 1 / (1 + leak**2), "inverse"),
    ("18.2", lambda leak: np.sqrt(1 + leak**2), "quotient of the norms"),
    ("18.2", lambda leak: 1 + leak, "do not add"),
    ("18.2", lambda leak: leak**2, "leaves out the part"),
    ("18.2", lambda leak: 50, "denominator"),
    ("18.3", 9, "has length 1, too"),
    ("18.3", np.sqrt(82), "has length 1, too"),
    ("18.3", 41, "between the squares"),
    ("18.3", 9 * np.sqrt(41), "Only |g_par| does"),
    ("18.3", 1 / np.sqrt(41), "old leak over the new"),
    ("18.3", 2, "Which of the factors"),
])
def test_wrong_answers_get_the_hint_meant_for_them(number, answer, hint):
    assert hint in find(number).judge(answer)


@pytest.mark.parametrize("number, answer", [
    ("15.1", "small"), ("15.2", [0.0284]), ("15.4", "too small"), ("16.2", 8.17), ("16.2", [8.17, np.nan]), ("16.3", None),
    ("16.5", np.inf), ("17.1", True), ("17.2", {}), ("17.3", 0.045), ("18.1", 400), ("18.2", "no"), ("18.3", lambda: 6.4),
])
def test_answers_of_another_kind_are_refused(number, answer):
    with pytest.raises(ValueError, match="answer must"):
        find(number).judge(answer)


@pytest.mark.parametrize("number", ["15.1", "15.2", "15.4", "16.2", "16.3", "16.5", "17.1", "17.2", "17.3", "18.1", "18.2", "18.3"])
def test_no_answer_yet(number, capsys):
    check(number, ...)
    assert capsys.readouterr().out.startswith(f"{number}: no answer yet. Put {find(number).expects} in the place")
