"""Checks of the exercises in Part IV."""
from functools import cache

import numpy as np

from guidance.checks import exercise
from guidance.checks.judging import as_array, as_choice, as_number, first_hint, judged, judged_function, near
from guidance.checks.laws import PROCESS, on_a_line
from guidance.guide import cfg
from guidance.mixtures import GaussianMixture

SANDWICH = on_a_line([0, -1, 1], labels=[0, 1, 1], weights=[0.5, 0.25, 0.25])
BRAID = on_a_line([-3, 2.5, -1.5, 0.5, 4.5, -4.5, 1.5], np.square([0.6, 0.7, 0.7, 0.8, 0.7, 0.7, 0.75]), [0, 0, 1, 1, 1, 2, 2],
                  [0.15, 0.15, 0.09, 0.12, 0.09, 0.24, 0.16])


def _on_the_line(p):
    # Points, and the masses of p and of its class 0 there (equal spacing: exact to rounding for these laws).
    x, h = np.linspace(-14, 14, 2801, retstep=True)
    return x[:, None], h * np.exp(p.log_prob(x[:, None])), h * np.exp(p.given(0).log_prob(x[:, None]))


# --- 12, A martingale ---------------------------------------------------------------------------------------------


@exercise("12.2", expects="the slope Q'(0), a number with its sign")
def slope(answer):
    """The slope of the mean of 1/p at w = 0 on the sandwich, filling: -2 KL(p || p_c) / p(c), by quadrature (Chapter 12)."""
    p = SANDWICH
    x, mass, mass_c = _on_the_line(p)
    gap = p.log_prob(x) - p.given(0).log_prob(x)
    forward, backward = mass @ gap, -mass_c @ gap
    truth = -2 / p.prior(0) * forward
    return judged(as_number(answer), truth, (
        (-truth, "The size is right. Does the mean rise or fall when guidance is switched on?"),
        (-2 / p.prior(0) * backward, "You have the other divergence. Over which of the two laws does the mean of "
         "|grad l_t|^2 run, once M_t is written as p_t(x) over p(c) p_t(x | c)?"),
        (truth / 2, "This is half of it. The theorem on the improvement has a factor 2, and M_t carries a factor 1/p(c), which is 2 here."),
    ), "Start from the theorem on the improvement, to first order in w: there the run is the unguided one. If you took a "
       "difference quotient of Q, take a smaller w, such as 0.001.", rtol=5e-3)


@exercise("12.3", expects="the mean of 1/p(0 | Y_0) at w = -1, a number")
def negative(answer):
    """The mean of 1/p(0 | Y) over all data of the sandwich, by quadrature (Chapter 12)."""
    p = SANDWICH
    x, mass, mass_c = _on_the_line(p)
    m = 1 / p.posterior(x, 0)
    variance = mass_c @ m**2 - (mass_c @ m) ** 2
    return judged(as_number(answer), mass @ m, (
        (mass_c @ m, "This is 1/p(c), the mean at w = 0. At w = -1 the samples come from all data, not from class 0."),
        (mass_c @ m**2, "This is the mean of 1/p squared over class 0. To change the measure to all data, another factor is needed."),
        (p.prior(0) * variance, "The variance is the mean square minus the squared mean. You need the whole mean square."),
        (variance, "This is the variance of 1/p over class 0. How do you get the mean over all data from the class's moments?"),
    ), "Write p(x) as p(x | c) p(c) / p(c | x). Then the mean over all data is a mean over the class, of another power of 1/p.",
        rtol=5e-3)


@exercise("12.4", expects="a function of (q_n, q_2n)")
def extrapolation(answer):
    """The combination of two means with step errors C/N and C/2N that has no error of that order (Chapter 12)."""
    rng = np.random.default_rng(124)
    limit, factor, steps = rng.uniform(1, 3, 4), rng.uniform(-2, 2, 4), rng.integers(10, 200, 4)
    q, q_2 = limit + factor / steps, limit + factor / (2 * steps)
    return judged_function(answer, "q_n, q_2n", zip(q, q_2), limit, (
        (2 * q - q_2, "This moves away from the limit. Which of the two means has the smaller error, and gets the larger weight?"),
        ((4 * q_2 - q) / 3, "These are the weights for an error of order 1/N^2. Here it is of order 1/N."),
        (q_2 - q, "This is the difference of the two errors. Where must it be added?"),
        ((q + q_2) / 2, "The average of the two means has an error of order 1/N as well: both errors have the same sign."),
    ), "Write the means as Q + C/N and Q + C/(2N). The weights must add up to 1, and the terms with C must cancel.", rtol=1e-8, atol=0.0)


# --- 13, Better on average, worse for some ------------------------------------------------------------------------


@exercise("13.1", expects="a function of (s_c, s_o)")
def tail(answer):
    """The power of the tail of 1/p(c | X), from exact tail probabilities far out, for classes with one mean (Chapter 13)."""
    from scipy.special import log_ndtr

    rng = np.random.default_rng(131)
    s_c = np.append(0.5, rng.uniform(0.3, 1.0, 3))
    s_o = np.append(0.8, s_c[1:] * rng.uniform(1.1, 2.5, 3))
    far = s_c * np.array([[1e3], [2e3]])  # |X| > far has probability 2 Phi(-far / s_c)
    log_height = far**2 * (1 / s_c**2 - 1 / s_o**2) / 2
    truth = -np.diff(log_ndtr(-far / s_c), axis=0)[0] / np.diff(log_height, axis=0)[0]
    return judged_function(answer, "s_c, s_o", zip(s_c, s_o), truth, (
        (s_o / (s_o - s_c), "Standard deviations where variances belong: the exponents are x^2 over 2 s^2."),
        (truth - 1, "This is too small by 1. The samples come from class c, whose tail is x^2 over 2 s_c^2, not from the rival."),
        (1 / truth, "This is the inverse. P > h falls like h to the power -kappa: divide the exponent of P by that of 1/p."),
        (s_c**2 / (s_c**2 - s_o**2), "The roles are exchanged. The first argument is the standard deviation of class c, and the "
         "rival is the wider one."),
    ), "Far out, log(1/p) and log P(|X| > x) both grow like x^2. Find both coefficients and eliminate x^2.", rtol=1e-3, atol=0.0)


@exercise("13.3", expects="two numbers in a list, the strengths for N = 8 and for N = 15,")
def crossings(answer):
    """Where the mean after N steps passes 1/p(c) on its way up, on the sandwich, from the exact chain (Chapter 13)."""
    value, truth, within = as_array(answer, (2,)), np.array([_crossing(8, 5, 15), _crossing(15, 10, 25)]), {"rtol": 0, "atol": 0.06}
    if not near(value[0], truth[0], **within):
        if near(value[::-1], truth, **within):
            return "The two are exchanged: N = 8 comes first."
        return first_hint(value[0], [
            (lambda: _crossing(8, 0.1, 3.0), "The first is where the curve passes 2 on its way down. Look for the other crossing, at a "
             "larger w."),
        ], "The first is not right yet: find a zero of chain(...) - 2 for N = 8 between w = 5 and w = 15.", **within)
    return judged(value[1], truth[1], (
        (truth[0] * 15 / 8, "The first is right. The second assumes that only the product of step and strength counts. That is the "
         "prediction; now compute."),
        (truth[0], "The first is right. The second is the same: with more steps the curve turns later."),
    ), "The first is right. For N = 15 look between w = 10 and w = 25.", **within)


@cache
def _crossing(N, low, high):
    from scipy.optimize import brentq

    p, x, d = SANDWICH, np.linspace(-14, 14, 281)[:, None], 3.0 / N
    start = np.exp(p.given(0).noised(PROCESS.alpha(3.0), PROCESS.sigma(3.0)).log_prob(x))

    def above(w):
        law, score = start / start.sum(), cfg(p, 0, w, PROCESS)
        for t in PROCESS.times(N, T=3.0)[:-1]:
            K = np.exp(-((x.T - x - d * (x + 2 * score(x, t))) ** 2) / (4 * d))
            law = law @ (K / K.sum(1, keepdims=True))
        return law @ (1 / p.posterior(x, 0)) - 1 / p.prior(0)

    return brentq(above, low, high, xtol=1e-3)


@exercise("13.4", expects='"fall", "moderate", "both" or "neither"')
def moved_component(answer):
    """Which troubles of overlap are left when class 1 no longer shares the main place, by Fokker-Planck (Chapter 13)."""
    choice, truth = as_choice(answer, ("fall", "moderate", "both", "neither")), _troubles_left()
    if choice == truth:
        return None
    if choice == "both":
        return "That is the answer before the move. What was it that made the place near 2.7 a bad one for class 0?"
    return ("Guidance still drives samples to the right, towards 2.7. Compute p(0 | x) there before and after the move, then both means "
            "at a small and at a large w.")


@cache
def _troubles_left():
    from guidance.exact import FokkerPlanck

    moved = on_a_line([2.6, 2.8, 0.4, 7, -2.25, -1.25], np.square([0.9, 0.5, 0.3, 0.75, 0.85, 0.3]), [0, 0, 0, 1, 1, 1],
                      [0.266, 0.168, 0.266, 0.066, 0.078, 0.156])
    weak, strong = (FokkerPlanck(moved, 0, w, initial="class", cells=80, steps=20) for w in (0.5, 8.0))
    x, _, mass_c = _on_the_line(moved)
    before = mass_c @ moved.posterior(x, 0)
    falls = any(run.expect(lambda x: moved.posterior(x[:, None], 0)) < before for run in (weak, strong))
    moderate = weak.inverse_confidence() < strong.inverse_confidence()
    return {(True, True): "both", (True, False): "fall", (False, True): "moderate", (False, False): "neither"}[falls, moderate]


# --- 14, Which samples are bad ------------------------------------------------------------------------------------


@exercise("14.2", expects='"below", "about" or "above"')
def heavy_tail(answer):
    """What a mean of 2,000 unguided values of p(c)/p(c | X) usually is, where its expectation is 1: the braid (Chapter 14)."""
    choice = as_choice(answer, ("below", "about", "above"))
    p, rng = BRAID, np.random.default_rng(142)
    x = p.given(0).sample(200 * 2000, rng)[0]
    means = (p.prior(0) / p.posterior(x, 0)).reshape(200, 2000).mean(1)
    typical = np.median(means)
    truth = "about" if abs(typical - 1) < 0.05 else "below" if typical < 1 else "above"
    if choice == truth:
        return None
    if choice == "about":
        return "The expectation is 1. But which runs make it, how often do they occur, and are there enough of them among 2,000?"
    return "Look at single values of exp(-L): how large is a typical one, and how large a rare one?"


def _instance(rng, d=3, n=5, classes=2):
    # A random mixture, a time and points, with the log posteriors, scores and pulls that the two exercises need.
    p = GaussianMixture(rng.uniform(-2, 2, (5, d)), rng.dirichlet(np.full(5, 3.0)), rng.uniform(0.3, 1.0, (5, d)),
                        [0, 0, 1, 1, 1] if classes == 2 else [0, 0, 1, 1, 2])
    t, x = rng.uniform(0.15, 0.7), rng.uniform(-2, 2, (n, d))

    def log_p(x, t, label):
        return p.noised(PROCESS.alpha(t), PROCESS.sigma(t)).log_posterior(x, label)

    def score(x, label=None):
        return (p if label is None else p.given(label)).noised(PROCESS.alpha(t), PROCESS.sigma(t)).score(x)

    def laplacian(label, eps=1e-4):
        def pull(x):
            return score(x, label) - score(x)

        return sum((pull(x + eps * e)[:, i] - pull(x - eps * e)[:, i]) / (2 * eps) for i, e in enumerate(np.eye(d)))

    def along(label, velocity, eps=1e-4):
        return (log_p(x + eps * velocity, t - eps, label) - log_p(x - eps * velocity, t + eps, label)) / (2 * eps)

    return x, score, laplacian, along


@exercise("14.3", expects="a function of (laplacian, cond, pull, w)")
def flow_rate(answer):
    """The rate of log p_t(c | x) along the guided flow, by differences of exact log posteriors (Chapter 14)."""
    rng, cases, truth, wrong = np.random.default_rng(143), [], [], []
    for w in (0.0, 0.7, 2.5):
        x, score, laplacian, along = _instance(rng)
        cond, spread = score(x, 0), laplacian(0)
        pull = cond - score(x)
        across, square = (cond * pull).sum(1), (pull**2).sum(1)
        cases.append((spread, cond, pull, w))
        truth.append(along(0, x + cond + w * pull))
        wrong.append(((1 + 2 * w) * square, -truth[-1], -spread - across + w * square, -across + (1 + w) * square,
                      -2 * across - spread + (1 + w) * square))
    sde, backwards, missing, flat, twice = zip(*wrong)
    return judged_function(answer, "laplacian, cond, pull, w", cases, truth, (
        (sde, "This is the drift along the reverse SDE. The flow moves by half of the score term and has no noise; redo the sum."),
        (backwards, "The sign is that of growing t. The run goes back, from noise to data."),
        (missing, "This is w in the place of 1 + w. In |s_c|^2 - |s|^2 there is one more |grad l|^2."),
        (flat, "The Laplacian is missing: the density equation of each law has one."),
        (twice, "The term with s_c counts twice: the time derivative has it, and the flow gives part of it back."),
    ), "Subtract the equations for d/dt log p_t of the class and of all data. Then add the part that comes from moving with "
       "x + s_c + w grad l, and mind the direction of time.", rtol=1e-4, atol=1e-4, shape=(5,))


@exercise("14.4", expects="a function of (uncond, cond, other, w)")
def other_drift(answer):
    """The drift of log p_t(k | Y_t) in a run guided to c, by differences of exact log posteriors (Chapter 14)."""
    rng, cases, truth, wrong = np.random.default_rng(144), [], [], []
    for w in (0.0, 0.7, 2.5):
        x, score, laplacian, along = _instance(rng, classes=3)
        uncond, cond, other = score(x), score(x, 0), score(x, 1)
        pull, pull_k = cond - uncond, other - uncond
        square, guided = (pull_k**2).sum(1), cond + w * pull
        cases.append((uncond, cond, other, w))
        truth.append(along(1, x + 2 * guided) + laplacian(1))
        wrong.append(((1 + 2 * w) * square, square + 2 * w * (pull_k * pull).sum(1), square + (pull_k * (guided - other)).sum(1),
                      square + 2 * (pull_k * (guided - uncond)).sum(1)))
    own, unguided, half, from_all = zip(*wrong)
    return judged_function(answer, "uncond, cond, other, w", cases, truth, (
        (own, "This is the drift of l^k in a run that is guided to k. This run is guided to c."),
        (unguided, "This starts from a run of class k and adds the guidance. The run is one of class c: its score is not s_k at w = 0."),
        (half, "The change of the score enters the drift of the reverse SDE with a factor 2."),
        (from_all, "|grad l^k|^2 is the drift in a run of class k. So compare the score of this run with s_k, not with s."),
    ), "In an unguided run of class k the drift of l^k is |grad l^k|^2. By how much does the drift of this run's x differ from that of "
       "a run of class k?", rtol=1e-4, atol=1e-4, shape=(5,))
