"""Checks of the exercises in Part III."""
from __future__ import annotations

from functools import cache

import numpy as np

from guidance import UniformMixture, cfg, exact, sample, tilt
from guidance.checks import exercise
from guidance.checks.judging import as_array, as_number, drawn, first_hint, judged, judged_function, near
from guidance.checks.laws import PAIR, PROCESS, T, normal_nodes


@exercise("9.1", expects="three numbers, for flow, SDE and tilt,")
def negative_strength(answer):
    """The means of guided flow, guided SDE and tilt on the pair at w = -1/2 (Chapter 9)."""
    answer = as_array(answer, (3,))
    truth = _three_means(-0.5)
    if not near(answer, truth, rtol=0, atol=1e-3) and near(np.sort(answer), np.sort(truth), rtol=0, atol=1e-3):
        return "The right numbers in another order. Give the flow first, then the SDE, then the tilt."
    return judged(answer, truth, [
        (lambda: _three_means(0.5), "This is w = +1/2. How does the order of the three change with the sign of w?"),
        (np.ones(3), "These are the means of the class, at w = 0."),
    ], "Take the means of exact.FlowMap, exact.FokkerPlanck and tilt.Tilted for the pair, class 1, w = -0.5.", rtol=0, atol=1e-3)


@cache
def _three_means(w):
    """The means of flow, SDE and tilt on the pair."""
    nodes, weights = normal_nodes(60)
    sde = exact.FokkerPlanck(PAIR, 1, w, cells=60, steps=30)
    return np.array([weights @ exact.FlowMap(PAIR, 1, w).map(nodes), sde.mean(), tilt.Tilted(PAIR, 1, w).mean()[0]])


@exercise("9.2", expects="a function of t, w and size")
def constant_divergence(answer):
    """The Rényi divergence of order 1 + w between the guesses for N(mu, I) and N(0, I), with |mu| = size (Chapter 9)."""
    cases = drawn(92, (0.1, 1.5), (0.3, 4.0), (0.5, 2.0), n=4)

    def times(factor):
        return lambda t, w, size: factor(t, w, size) * _divergence(t, w, size)

    return judged_function(answer, "t, w, size", cases, _divergence, [
        (times(lambda t, w, size: 1 / (1 + w)), "This is the Kullback-Leibler divergence. The order is 1 + w."),
        (times(lambda t, w, size: w / (1 + w)), "This is what w in the place of 1 + w gives."),
        (times(lambda t, w, size: w), "This is w D. Divide by w."),
        (times(lambda t, w, size: 1 / size), "How does the divergence of two Gaussians depend on the distance of their means?"),
        (times(lambda t, w, size: 2.0), "Is there a half missing?"),
        (times(lambda t, w, size: -1.0), "Sign: a divergence is never negative."),
        (times(lambda t, w, size: _noise(t) ** -0.5), "This has sigma in the place of sigma squared."),
        (times(lambda t, w, size: _noise(t)), "Both guesses have the variance sigma^2: divide the squared distance of the means by it."),
        (times(lambda t, w, size: (1 - _noise(t)) / _noise(t)), "This has alpha^2 for sigma^2. At low noise both guesses agree."),
        (times(lambda t, w, size: 1 / _noise(t)), "This does not depend on t. But at low noise both guesses are the noisy point itself."),
        (times(lambda t, w, size: (1 - np.exp(-t)) / _noise(t)), "Here sigma^2 = 1 - exp(-2 t)."),
    ], "Both guesses are Gaussian with the same variance. Find their means at a noisy point x first.", rtol=2e-3)


def _noise(t):
    return 1 - np.exp(-2 * t)  # sigma^2


def _divergence(t, w, size, x=0.3):
    from scipy.special import logsumexp

    alpha, spread = np.exp(-t), _noise(t)
    grid = np.linspace(-12, 30, 12_001)
    log_q = -(grid**2) / 2 - (x - alpha * grid) ** 2 / (2 * spread)
    log_p = log_q + size * grid
    log_q, log_p = log_q - logsumexp(log_q), log_p - logsumexp(log_p)
    return float(logsumexp((1 + w) * log_p - w * log_q)) / w


@exercise("9.5", expects="two numbers, the mean before and the mean after,")
def langevin(answer):
    """The mean of the guided flow on the pair at w = 3, before and after Langevin steps with its score at t = 0 (Chapter 9)."""
    answer = as_array(answer, (2,))
    flow, sde, relaxed = _three_means(3.0)
    truth = np.array([flow, relaxed])
    x = np.linspace(-8, 10, 4001)
    log_tilt = tilt.Tilted(PAIR, 1, 3.0).log_prob(x[:, None])
    colder = np.exp(2 * log_tilt)
    return judged(answer, truth, [
        (truth[::-1], "These are the right numbers in the other order: before, then after."),
        ([flow, flow], "The score at t = 0 is not that of the flow's own law. Whose is it? The samples relax to that law."),
        ([flow, 1.0], "The samples relax to the law whose score is s_w(x, 0); with w = 3 that is not the plain class."),
        ([relaxed, relaxed], "The flow does not sample the tilt: its output lies further out."),
        (lambda: _three_means(4.0)[::2], "This is what 1 + w in the place of w gives."),
        ([sde, relaxed], "This start is the output of the SDE. The exercise starts from that of the flow."),
        ([flow, x[log_tilt.argmax()]], "Without the noise the steps climb to the mode. Langevin steps add sqrt(2 h) z."),
        ([flow, colder @ x / colder.sum()], "The noise of a step is sqrt(2 h) z, with the 2."),
    ], "Before: the mean of exact.FlowMap. After: the mean of the law whose score is the guided score at t = 0.", rtol=0, atol=0.05)


@exercise("10.1", expects="three numbers, the aim, the distance and the fraction,")
def wider_box(answer):
    """The first aim, the median's distance to the edge and its fraction of the width, for U[0.5, 4] at w = 10 (Chapter 10)."""
    answer = as_array(answer, (3,))
    w, low, high = 10.0, 0.5, 4.0
    truth = _aim_and_distance(w, low, high)
    _, distance, fraction = truth
    hints = []
    for i, value, hint in (
        (0, w * (low + high) / 2, "aim: this is what w in the place of 1 + w gives."),
        (0, (1 + w) * 1.5, "aim: this is that of U[1, 2]. The mean of this class is another."),
        (0, (1 + w) * high, "aim: at pure noise the class predicts its mean, not its edge."),
        (1, high - distance, "distance: this is the median itself. Subtract it from 4."),
        (1, fraction, "distance: this is the fraction, or the distance for U[1, 2]. This box is wider."),
        (2, distance / high, "fraction: divide by the width of the box, 3.5, not by 4."),
        (2, distance, "fraction: this is the distance itself. Divide it by the width of the box."),
        (2, 1 - fraction, "fraction: count from the outer edge, not from the inner one."),
    ):
        if not near(answer[i], truth[i], rtol=1e-2) and near(answer[i], value, rtol=1e-2):
            hints.append(hint)
    if hints:
        return "The " + " The ".join(hints)
    return judged(answer, truth, (), "The aim is the mean of the class plus w times its lead over the mean of the whole law; the "
                  "distance is that of the end of the path from 0.", rtol=1e-2)


@cache
def _aim_and_distance(w, low, high):
    p = UniformMixture([[low], [-high]], [[high], [-low]], labels=[1, 0])
    distance = high - float(exact.FlowMap(p, 1, w).map(0.0))
    return np.array([(1 + w) * (low + high) / 2, distance, distance / (high - low)])


@exercise("10.4", expects="a number")
def wide_target(answer):
    """The limit of x_0 / sqrt(w) for 1/2 N(1, 4) + 1/2 N(-1, 1), guided to +1 (Chapter 10)."""
    answer = as_number(answer)
    scaled = _scaled_limit(1.5, 3.0)
    truth, pair = 2 * scaled, _scaled_limit(0.0, 0.0)
    if near(answer, 2 * pair, rtol=5e-4):  # by chance close to the ratio at w = 100, hence the narrow tolerance
        return "The stretch is right. But with a wide target the log-odds have a quadratic part, which changes the limit of u."
    otherwise = "Scale as in the chapter: r = s / sqrt(w), x = sqrt(w) u. Write the log-odds as a function of s u to leading order."
    if truth < answer < 1.06 * truth:
        otherwise = "Near: at a finite w the ratio is still larger, by a term of order 1 / sqrt(w). Solve the scaled equation for the "\
                    "limit."
    return judged(answer, truth, [
        (scaled, "This is the limit of u. From there on the class's own flow stretches the path."),
        (pair, "This is the pair of equal variances. With a wide target the log-odds have a quadratic part."),
        (4 * scaled, "The class's own flow stretches by the standard deviation, not by the variance."),
        (2 * _scaled_limit(0.0, 3.0), "The quadratic part belongs into the log-odds, too, not only into their slope."),
        (2 * _scaled_limit(1.5, 0.0), "The quadratic part belongs into the slope of the log-odds, too."),
    ], otherwise, rtol=2e-3)


@cache
def _scaled_limit(quadratic, slope):
    """The limit of u' = (2 + slope s u) / (1 + e^(2 s u + quadratic (s u)^2)) from u(0) = 0."""
    from scipy.integrate import solve_ivp
    from scipy.special import expit

    def rate(s, u):
        return (2 + slope * s * u) * expit(-2 * s * u - quadratic * (s * u) ** 2)

    return float(solve_ivp(rate, (0, 30), [0.0], "DOP853", rtol=1e-10, atol=1e-12).y[0, -1])


@exercise("10.5", expects="a number")
def vanishing_density(answer):
    """The rate at which the distance to the edge falls if the density vanishes linearly there (Chapter 10)."""
    answer = as_number(answer)
    bounded = _scaled_limit(0.0, 0.0) ** 2 / 2
    truth = bounded / 2
    otherwise = "Write 1 - F_0(x) near the edge for a density that vanishes linearly, and set it equal to the missing level."
    if truth < answer < 1.25 * truth:
        otherwise = "Near, and fine for a measurement at moderate w. To leading order it follows from the rate of the chapter."
    return judged(answer, truth, [
        (-truth, "Sign: give k of e^(-k w), a positive number."),
        (bounded, "This is the rate for a density bounded below at the edge. How does the missing level depend on the distance now?"),
        (2 * bounded, "The missing level is the square of the distance, up to a factor. So the distance is what of the missing level?"),
        (bounded / 3, "A density that vanishes linearly leaves a level of the second order in the distance, not of the third."),
        (bounded**2, "Take the square root of the missing level, not the square of the rate."),
        (np.sqrt(bounded), "Take the square root of the missing level, not of the rate."),
    ], otherwise, rtol=5e-3)


@exercise("11.1", expects="a number")
def half_outside(answer):
    """The strength at which half of the samples are outside U[1, 2] when the run stops at tau = 0.03 (Chapter 11)."""
    answer, tau = as_number(answer), 0.03
    w = tuple(np.linspace(4.0, 11.0, 57))
    truth = np.interp(0.0, _medians(w, tau) / np.cos(np.arctan(tau)) - 2, w)
    side = "above" if answer > truth else "below"
    near_by = f"Not far: you are a little {side}. " if abs(answer - truth) < 0.35 else ""
    otherwise = f"{near_by}Half are outside when the median of 2 - x_0 in a finished run is tau / sqrt(2 pi); search for that w."
    if near(answer, truth, rtol=0, atol=0.05):
        return None
    if near(answer, truth + 1, rtol=0, atol=0.05):
        return "This is 1 + w."
    if not 0.5 <= answer <= 20:
        return otherwise
    return first_hint(2 - _medians((answer,), 1e-5)[0], [  # the distance of the median, at the end of a run at this strength
        (tau, "At this strength the median ends at the distance tau. The border of the formula is nearer to the edge than that."),
        (tau * np.sqrt(2 * np.pi), "Divide tau by sqrt(2 pi), do not multiply."),
        (tau / (2 * np.pi), "The border is at tau over the square root of 2 pi."),
    ], otherwise, rtol=0.03)


@cache
def _medians(w, tau):
    """Where the paths from 0 are at sigma / alpha = tau for the strengths w, on U[1, 2] and its mirror image."""
    line = UniformMixture([[1.0], [-2.0]], [[2.0], [-1.0]], labels=[1, 0])
    times = PROCESS.times(100, T=T, t_min=float(PROCESS.time(np.arctan(tau))), spacing="log-snr")
    return sample(cfg(line, 1, np.array(w), PROCESS), PROCESS, np.zeros((len(w), 1, 1)), times, "rk4", progress=False)[:, 0, 0]


@exercise("11.2", expects="three numbers")
def pull_left(answer):
    """Where the pull is gone for weaknesses 0.10 and 0.08, and what is left at w = 5 for 0.08 and for 0.12 (Chapter 11)."""
    answer = as_array(answer, (3,))

    def pull(w, c, u):  # of s_c = s_u = 1
        return (1 + w) * (1 - c) - w * (1 - u)

    gone = pull(0, 0.10, 0.08) / (pull(0, 0.10, 0.08) - pull(1, 0.10, 0.08))  # linear in w
    truth = np.array([gone, pull(5, 0.10, 0.08), pull(5, 0.10, 0.12)])
    return judged(answer, truth, [
        ([1 / 0.02, 1 - 5 * 0.02, 1 + 5 * 0.02], "Even without guidance the pull is weaker, by delta_c."),
        ([gone + 1, *truth[1:]], "The first is 1 + w. At this strength the pull already pushes outwards."),
        ([1 / 0.02, *truth[1:]], "The first is nearly it. Even at w = 0 less than the whole pull is there."),
        ([gone, pull(4, 0.10, 0.08), pull(4, 0.10, 0.12)], "The last two belong to w = 4. In this book w = 0 is unguided."),
        ([gone, pull(6, 0.10, 0.08), pull(6, 0.10, 0.12)], "The last two are what 1 + w in the place of w gives."),
        ([gone, truth[2], truth[1]], "The last two are in the other order."),
        ([gone, 0.2, 0.0], "The last two are what is lost of the pull; what is left is asked for."),
    ], "Put both weak scores into (1 + w) s_c - w s_u with s_u = s_c, and collect the factor of s_c.", atol=1e-6)


@exercise("11.3", expects="a number")
def shrinking_margin(answer):
    """The power of h by which the L2 error of the weakened score grows as the margin h of its far zone shrinks (Chapter 11)."""
    answer = as_number(answer)
    truth = np.log(_error_size(1e-3) / _error_size(4e-3)) / np.log(1 / 4)
    return judged(answer, truth, [
        (-truth, "Sign: does the error grow or shrink as h goes to 0?"),
        (0.0, "The error does not stay as it is. Look at the noise level at which the cone and the margin meet, h / kappa."),
        (2 * truth, "Is this the mean square, or |s_c| without the small share of the class in the zone?"),
        (-2 * truth, "The sign, and the root of the mean square: there are two things to mend."),
        (4 * truth, "This is |s_c|^2 alone. Only a small share of the class lies in the zone, and then take the root."),
    ], "Compute the error for a few h, each a quarter of the last, and look at the ratio; the worst noise level is near h / kappa.",
        rtol=0, atol=0.04)


def _error_size(h, kappa=0.3):
    """The worst L2 error over tau, up to 1 / (1 + w), of a score switched off beyond 2 + max(h, kappa tau), on U[1, 2]."""
    box = UniformMixture([[1.0]], [[2.0]], labels=[1])
    sizes = []
    for tau in h / kappa * np.geomspace(0.3, 3, 9):
        alpha, sigma = np.cos(np.arctan(tau)), np.sin(np.arctan(tau))
        p = box.noised(alpha, sigma)
        x = alpha * (2 + max(h, kappa * tau)) + sigma * np.linspace(0, 10, 400)[:, None]
        squares = p.score(x)[:, 0] ** 2 * np.exp(p.log_prob(x))
        sizes.append(np.sqrt(np.sum(squares) * (x[1, 0] - x[0, 0])))
    return max(sizes)
