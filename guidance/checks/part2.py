"""Checks of the exercises in Part II."""
from __future__ import annotations

from functools import cache

import numpy as np

from guidance import cfg, exact, sample
from guidance.checks import exercise
from guidance.checks.judging import as_array, as_number, drawn, first_hint, judged, judged_function, near
from guidance.checks.laws import PAIR, PROCESS, T, normal_nodes, on_a_line

R0 = np.exp(-T)
GAUSS = 0.5 * np.log(2 * np.pi * np.e)  # the entropy of N(0, 1)


@exercise("6.1", expects="a list of six counts")
def polygon(answer):
    """How many corners of a regular polygon with 3, 4, ..., 8 corners satisfy the cone condition (Chapter 6)."""
    answer, corners = as_array(answer, (6,)), np.arange(3, 9)
    circle = [np.exp(2j * np.pi * np.arange(k) / k) for k in corners]
    arrows = [z[0] - z[1:] for z in circle]  # to one corner from the others; every corner has the same products
    smallest = np.array([np.real(np.outer(a, a.conj())).min() for a in arrows])
    truth, strict = np.where(smallest > -1e-9, corners, 0), np.where(smallest > 1e-9, corners, 0)
    return judged(answer, truth, [
        (strict, "One polygon is missing. Does the condition allow a right angle?"),
        (truth > 0, "Count the corners that satisfy the condition; all corners of a polygon are alike."),
        (corners, "Not every polygon passes. How large is the angle between the two neighbours of a corner, seen from it?"),
        (np.full(6, 2), "Two of K is the count on a line. In the plane, stand on a corner and look at the other corners."),
    ], "Seen from a corner of a regular polygon, the others fill the angle between its two sides. When is that at most a right angle?")


@exercise("6.3", expects="a number")
def sharper_bound(answer):
    """The bound w m sigma(1) on the gain of the pair from the start 0 at w = 100 (Chapter 6)."""
    answer = as_number(answer)
    w, m = 100.0, 4.0
    truth = w * m * _sigma(w, m)
    levels, weights = _levels(400)
    doubt = 1 / (1 + np.exp(2 * levels * (levels - R0)))
    return judged(answer, truth, [
        (truth / (w * m), "This is sigma(1). The bound is w m times that."),
        (truth / w, "Is the factor w still missing?"),
        (truth / m, "Is the factor m still missing?"),
        (w * m * (weights @ (doubt * np.exp(-w * m * levels**2))), "This is the old bound, with r in the place of sigma."),
        (lambda: 2 * (exact.FlowMap(PAIR, 1, w).map(0.0) - (1 - R0)),
         "This is the exact gain. The bound comes from an equation for sigma "
         "alone, with the doubt of the unguided path."),
        (w * 2 * _sigma(w, 2.0), "For one competitor m and M are both |v|^2, the square of the distance of the two means."),
        (w * _sigma(w, 1.0), "The two means are 2 apart, so m and M are not 1."),
        (101 * m * _sigma(101.0, m), "This is what 1 + w in the place of w gives."),
    ], "Solve the equation of sigma from e^-T to 1, with M = |v|^2 and the doubt along the path r - e^-T; then multiply by w m.")


def _sigma(w, m):
    from scipy.integrate import solve_ivp

    def rate(r, s):
        return np.exp(-w * m * r * s) / (1 + np.exp(2 * r * (r - R0)))

    return solve_ivp(rate, (R0, 1), [0.0], rtol=1e-9, atol=1e-12).y[0, -1]


@exercise("6.4", expects="three numbers")
def moving_competitor(answer):
    """The change of the mean confidence from w = 0 to w = 0.5, with the far competitor at -6, -2 and -1 (Chapter 6)."""
    answer = as_array(answer, (3,))
    plain, guided = _mean_confidences(0.0), _mean_confidences(0.5)
    truth = guided - plain
    uneven = 1 / 12, 1 / 12, 10 / 12
    return judged(answer, truth, [
        (-truth, "Signs: the change is the value at w = 0.5 minus the value at w = 0."),
        (guided, "These are the means at w = 0.5. Subtract those at w = 0."),
        (truth / plain, "These are changes in relation to the value at w = 0; plain differences are asked for."),
        (lambda: _mean_confidences(0.5, uneven) - _mean_confidences(0.0, uneven),
         "These are the weights of the chapter. Here all three are equal."),
        (lambda: _mean_confidences(1.0) - plain, "This is w = 1. Here w is 0.5, in the convention in which w = 0 is unguided."),
    ], "Build each law with equal weights and take exact.FlowMap(...).expect of p(c | x) at both strengths; the class is the centre at 0.",
        rtol=0, atol=1e-3)


@cache
def _mean_confidences(w, weights=None):
    nodes, share = normal_nodes(30)
    laws = [on_a_line([1, 0, far], weights=weights) for far in (-6, -2, -1)]
    return np.array([share @ p.posterior(exact.FlowMap(p, 1, w).map(nodes)[:, None], 1) for p in laws])


@exercise("7.1", expects="a number")
def grey_levels(answer):
    """By how many nats the entropy of 64 pixels grows when [-1, 1] becomes [0, 255] (Chapter 7)."""
    answer, scale = as_number(answer), 255 / 2
    return judged(answer, 64 * np.log(scale), [
        (np.log(scale), "This is what one pixel adds. The matrix A has 64 rows."),
        (64 * np.log(255), "The old range [-1, 1] has length 2, not 1."),
        (64 * np.log(256), "The range [0, 255] has length 255 and the old one length 2."),
        (64 * np.log2(scale), "This is in bits. The entropies of the chapter are in nats."),
        (-64 * np.log(scale), "Sign: is the larger image the more or the less spread out one?"),
        (32 * np.log(scale), "No half: log |det A| is the logarithm of a volume, not of a variance."),
        (128 * np.log(scale), "log |det A| is the logarithm of a volume; no factor is squared."),
    ], "What is A when every one of 64 pixels is multiplied by the same factor, and what is log |det A|?")


@exercise("7.2", expects="a number")
def information(answer):
    """What a draw of the pair tells about its component, H(p) - H_0 in nats (Chapter 7)."""
    answer = as_number(answer)
    x, step = np.linspace(-14, 14, 4001, retstep=True)
    log_f = PAIR.log_prob(x[:, None])
    entropy = -step * (np.exp(log_f) @ log_f)  # the trapezoidal rule: both ends are zero
    truth = entropy - GAUSS

    def of_doubt(power):  # the integral over r of r^power times the mean of 1 - tanh(r x)^2
        levels, weights = _levels(60)
        laws = [PAIR.noised(r, np.sqrt(1 - r**2)) for r in levels]
        return weights @ [r**power * step * (np.exp(law.log_prob(x[:, None])) @ np.cosh(r * x) ** -2.0) for r, law in zip(levels, laws)]

    return judged(answer, truth, [
        (-truth, "Sign: which of the two laws is the wider one?"),
        (entropy, "This is H(p). Subtract the entropy of one component."),
        (truth / np.log(2), "This is in bits. The entropies of the chapter are in nats."),
        (np.log(2), "This is the upper bound log K. The information itself is smaller, since the components overlap."),
        (0.5 * np.log(2), "This takes the Gaussian with the variance of the pair; of all laws with that variance it has the most entropy."),
        (lambda: of_doubt(0), "Has the factor r in the integral been left out?"),
        (lambda: of_doubt(2), "The integrand has the factor r, not its square."),
    ], "Either integrate -p log p over the line and subtract the entropy of N(0, 1), or average r (1 - tanh(r x)^2) over the noised pair.",
        rtol=2e-3)


@exercise("7.3", expects="two numbers")
def rise_or_fall(answer):
    """The change of DDIM's entropy from w = 0 to w = 1, in nats, for the two laws of the exercise (Chapter 7)."""
    answer = as_array(answer, (2,))
    truth = _entropies(4.0, 0.25) - GAUSS
    return judged(answer, truth, [
        (-truth, "Sign: the change is the entropy at w = 1 minus the entropy at w = 0."),
        (truth + GAUSS, "These are the entropies at w = 1. Subtract that of the guided component."),
        (lambda: _entropies(16.0, 1 / 16) - GAUSS, "N(0, 4) has variance 4; `covs` takes variances, not standard deviations."),
        (lambda: _entropies(4.0, 0.25, label=1) - GAUSS - 0.5 * np.log([4.0, 0.25]),
         "These runs are guided to the other component. The class is N(0, 1) both times."),
        (lambda: _entropies(4.0, 0.25, solver=exact.FokkerPlanck, cells=60, steps=30) - GAUSS,
         "This is the SDE. The exercise asks for DDIM, the flow."),
    ], "Take exact.FlowMap(p, label, 1.0).entropy() for the component N(0, 1) of each law, minus that of N(0, 1).", rtol=2e-3)


@cache
def _entropies(*variances, label=0, solver=exact.FlowMap, **settings):
    laws = [on_a_line([0, centre], [1, variance]) for centre, variance in zip((0, 1), variances)]
    return np.array([solver(p, label, 1.0, **settings).entropy() for p in laws])


@exercise("8.2", expects="two numbers, w and kappa,")
def split_strength(answer):
    """The strength at which 70 Euler steps split the middle class at a = 2, and its limit for short steps, as d w (Chapter 8)."""
    answer = as_array(answer, (2,))
    kappa = _limit_of_short_steps(2.0)
    truth = np.array([_splits_at(2.0, 70), kappa])
    w_right, kappa_right = np.abs(answer / truth - 1) <= (0.01, 0.003)
    if w_right and kappa_right:
        return None
    d, r = T / 70, np.exp(-PROCESS.times(70, T=T)[:-1])
    peak = 1 / (r**2 * _variance(r, 2.0)).max()
    if not w_right and (hint := first_hint(answer[0], [
        (2 * peak / d, "the first |M| > 1 is not yet a split. The growth after it must make up for all the shrinking before."),
        (peak / d, "this is where the zig-zag begins, M < 0. Such paths still shrink."),
        ((2 / d - 1) * peak / 2, "this is the local threshold of DDPM. DDIM draws no noise, so its product over the past counts."),
        (kappa / d, "this is the limit of short steps, divided by d. With N = 70 the product itself decides."),
        (d * truth[0], "this is d w. The strength w is asked for, with d = T / N."),
        (lambda: _splits_at(2.0, 100), "this is N = 100, the example of the chapter."),
    ], None, rtol=5e-3)):
        return f"w: {hint}"
    if not kappa_right and (hint := first_hint(answer[1], [
        (2 * peak, "this is where |M| > 1 first occurs. The integral weighs the growth against the shrinking before it."),
        (peak, "this is where M < 0 first occurs. Here the integral is still far below zero."),
        (kappa * 10, "this is w for steps of length 0.1. kappa is d w."),
    ], None, rtol=5e-3)):
        return f"kappa: {hint}"
    if w_right and near(answer[1], kappa, rtol=0.05):
        return "w is right. kappa is near, but not to three digits: take the limit by quadrature or with thousands of steps."
    if w_right:
        return "w is right. For kappa, integrate log |1 - kappa r^2 V(r)| / r from 0 to 1, split where the logarithm is singular."
    return ("kappa is right. " if kappa_right else "") + "For w, find the smallest strength at which P_k exceeds 1 at some k."


def _tail(r, a):
    return np.exp(-((r * a) ** 2) / 2)


def _variance(r, a, outer=1 / 3):
    return 2 * a**2 * outer * _tail(r, a) / (1 - 2 * outer + 2 * outer * _tail(r, a))


def _splits_at(a, count):
    d, r = T / count, np.exp(-PROCESS.times(count, T=T)[:-1])

    def growth(w):
        M = 1 - d * np.asarray(w)[..., None] * r**2 * _variance(r, a)
        return np.cumsum(np.log(np.abs(M) + 1e-300), axis=-1).max(-1)

    w = np.geomspace(1, 100, 3000) / d
    first = int(np.argmax(growth(w) > 0))
    low, high = w[first - 1], w[first]
    for _ in range(25):
        half = (low + high) / 2
        low, high = (low, half) if growth(half) > 0 else (half, high)
    return float(high)


def _limit_of_short_steps(a):
    from scipy.integrate import quad
    from scipy.optimize import brentq

    grid = np.linspace(1e-3, 1, 400)

    def product(kappa):  # the integral of log |1 - kappa r^2 V| / r, cut at its singularities
        def M(r):
            return 1 - kappa * r**2 * _variance(r, a)

        turns = np.flatnonzero(np.diff(np.sign(M(grid))))
        cuts = [0.0, *(brentq(M, grid[i], grid[i + 1]) for i in turns), 1.0]
        return sum(quad(lambda r: np.log(np.abs(M(r))) / r, low, high, limit=200)[0] for low, high in zip(cuts, cuts[1:]))

    kappas = np.arange(0.75, 40, 0.5)
    first = next(i for i, kappa in enumerate(kappas) if product(kappa) > 0)
    return brentq(product, kappas[first - 1], kappas[first], xtol=1e-6)


@exercise("8.3", expects="a function of r, a and outer")
def uneven_variance(answer):
    """The posterior variance V(r) of the centre at x = 0, for outer weights that are not one third (Chapter 8)."""
    cases = drawn(83, (0.2, 1.0), (0.5, 2.5), (0.1, 0.45), n=4)
    return judged_function(answer, "r, a, outer", cases, _posterior_variance, [
        (lambda r, a, o: _variance(r, a), "These are three equal weights. Where do the weights enter the posterior?"),
        (lambda r, a, o: _posterior_variance(r, a, o) * r**2, "This is r^2 V. Leave the factor r^2 to the multiplier."),
        (lambda r, a, o: _posterior_variance(r, a, o) / 2, "Both outer classes count: the numerator has two terms."),
        (lambda r, a, o: np.sqrt(_posterior_variance(r, a, o)), "This is the standard deviation. V is the variance."),
        (lambda r, a, o: _variance(r, a, (1 - o) / 2), "`outer` is the weight of each outer class, 1 - 2 outer that of the middle one."),
        (lambda r, a, o: 2 * a**2 * o * _tail(r, a) / (1 - o + o * _tail(r, a)), "Both outer classes count in the denominator, too."),
        (lambda r, a, o: 2 * a**2 * o * _tail(r, a) / (1 - 2 * o + 2 * _tail(r, a)),
         "In the denominator, too, an outer class counts with its weight."),
        (lambda r, a, o: 2 * a**2 * o * _tail(r, a) ** 2 / (1 - 2 * o + 2 * o * _tail(r, a) ** 2),
         "The exponent has a half: the noised classes have variance 1, and their centres are r a away."),
    ], "Write the posterior weights of the three centres at x = 0 by Bayes' rule; V is the mean of the squared centres.", rtol=1e-3)


def _posterior_variance(r, a, outer):
    p = on_a_line([-a, 0, a], weights=[outer, 1 - 2 * outer, outer])
    law, centre = p.noised(r, np.sqrt(1 - r**2)), np.zeros((1, 1))
    return a**2 * float(law.posterior(centre, 0)[0] + law.posterior(centre, 2)[0])


@exercise("8.4", expects="a function of theta, h and w")
def turned_step(answer):
    """The multiplier of one step of `ddim` near the centre, from the angle theta to theta - h, for a = 2 (Chapter 8)."""
    cases = drawn(84, (0.5, 1.3), (0.2, 0.4), (2.0, 40.0), n=4)

    def V(theta):
        return _variance(np.cos(theta), 2.0)

    def push(theta):
        return np.sin(theta) * np.cos(theta)

    def euler(theta, h, w):
        return 1 - np.log(np.cos(theta - h) / np.cos(theta)) * w * np.cos(theta) ** 2 * V(theta)

    return judged_function(answer, "theta, h, w", cases, _one_step, [
        (euler, "This is the Euler step in t. The step of `ddim` turns by the angle h."),
        (lambda theta, h, w: _one_step(theta, h, 1 + w), "This is what 1 + w in the place of w gives."),
        (lambda theta, h, w: _one_step(theta, h, -w), "Sign: does guidance of the middle class shrink or stretch a small x?"),
        (lambda theta, h, w: 1 - w * V(theta) * push(theta) * np.sin(h), "Even at w = 0 the step multiplies x by something other than 1."),
        (lambda theta, h, w: np.cos(h) - w * V(theta) * push(theta) * h, "The step is exact in h: no sine of h is replaced by h."),
        (lambda theta, h, w: 1 - w * V(theta) * push(theta) * h, "The step is exact in h: nothing is expanded in small h."),
        (lambda theta, h, w: np.cos(h) - w * V(theta - h) * push(theta - h) * np.sin(h),
         "The score is taken at the start of the step, at the angle theta."),
        (lambda theta, h, w: np.cos(h) - w * V(theta) * np.tan(theta) * np.sin(h),
         "Near the centre the guided score has the slope -(1 + w r^2 V); is the factor r^2 there?"),
        (lambda theta, h, w: np.cos(h) - w * np.cos(theta) ** 2 * V(theta) * np.sin(h),
         "The factor of the score in the step is sigma / alpha times sin h."),
    ], "Put s_w = -(1 + w r^2 V) x, r = cos(theta), into x <- (alpha_s / alpha_t) x + (sigma_t / alpha_t) sin(h) s_w.",
        rtol=1e-3, atol=1e-5)


def _one_step(theta, h, w):
    x, times = np.array([[1e-4], [-1e-4]]), [float(PROCESS.time(theta)), float(PROCESS.time(theta - h))]
    ends = sample(cfg(on_a_line([-2, 0, 2]), 1, float(w), PROCESS), PROCESS, x, times, "ddim")
    return float(ends[0, 0] - ends[1, 0]) / 2e-4


def _levels(count):
    """Gauss-Legendre nodes and weights on [e^-T, 1]."""
    x, weights = np.polynomial.legendre.leggauss(count)
    return R0 + (1 - R0) * (x + 1) / 2, weights * (1 - R0) / 2
