"""Checks of the exercises in Part V."""
from functools import cache

import numpy as np

from guidance.checks import exercise
from guidance.checks.judging import as_array, as_number, first_hint, judged, judged_function, near
from guidance.manifolds import Subspace
from guidance.mixtures import GaussianMixture
from guidance.process import OU

SIGMA, RHO = 0.1, 1 / 82  # of the target y; variance of the data along theta_2


def _bases(D, d, rng):
    # Orthonormal bases of a subspace and of its complement.
    Q = np.linalg.qr(rng.standard_normal((D, D)))[0]
    return Q[:, :d], Q[:, d:]


def _practical(s, delta, rho):
    # A noise-free round of Algorithm 1 on f_1 with the practical rule: theta^T z_k to theta^T z_{k+1}, by Lemma 3.
    slope = 2 * (3 - s)
    target = delta + slope * s
    return target / (SIGMA**2 + slope**2 * rho) * slope * rho


# --- 15, Keep the subspace ----------------------------------------------------------------------------------------


@exercise("15.1", expects="the noise variance h, a number")
def tenth_of_the_ratio(answer):
    """Where the off/on ratio of the look-ahead gradient is a tenth of that of g, from the package's Tweedie (Chapter 15)."""
    from scipy.optimize import brentq

    A, off = _bases(6, 2, np.random.default_rng(151))
    tau2, g = 1e-3, A[:, 0] + off[:, 0]
    law = Subspace(A, thickness=tau2)

    def ratio(h):
        gradient = law.tweedie(np.sqrt(1 - h), np.sqrt(h))(np.zeros((1, 6)), g)[2].reshape(-1, 6)
        return float(np.linalg.norm(gradient @ off) / np.linalg.norm(gradient @ A))

    truth = brentq(lambda h: ratio(h) - 0.1, 1e-6, 0.5, xtol=1e-10)
    tau = np.sqrt(tau2)
    return judged(as_number(answer), truth, (
        (np.sqrt(truth), "This is the standard deviation of the noise. h is its variance."),
        (tau2 / 0.1, "This leaves out alpha^2 tau^2 beside h. It is not small here."),
        ((tau / 0.1 - tau) / (1 - tau), "This takes tau for tau^2: the number given is the variance."),
        (tau2 * (1 / 0.9 - 1), "This is where the ratio is nine tenths, nearly that of g itself: too close to the data."),
    ), "Set the quotient equal to a tenth, write 1 - h for alpha^2, and solve for h.", rtol=0.02)


@exercise("15.2", expects="the displacement at the data, a number")
def floor(answer):
    """What a constant push leaves behind when the pull ends at 1/kappa: the equation of the mean, integrated (Chapter 15)."""
    from scipy.integrate import solve_ivp

    kappa, T = 0.01, 40.0

    def left(pull):
        run = solve_ivp(lambda s, m: 1 - (pull(-np.expm1(s - T)) - 0.5) * m, (0, T), [0.0], rtol=1e-8, atol=1e-11, max_step=0.05)
        return run.y[0, -1]

    truth = left(lambda h: 1 / max(h, kappa))
    return judged(as_number(answer), truth, (
        (kappa * np.log(4 / kappa), "This is what is left at t = kappa. The run goes on to the data from there."),
        (kappa, "This is where the last stretch heads, b kappa. It does not get there: that stretch is only as long as kappa."),
        (0.0, "Nothing is left with an exact score, whose pull grows without bound. This network's pull ends at 1/kappa."),
    ), "In the time t of the noise the mean follows m' = (1/max(h, kappa) - 1/2) m - b. Use the closed form down to t = kappa, then solve "
       "with a constant pull.", rtol=0.03, atol=1e-4)


@exercise("15.4", expects="the mean along u with the official beta, a number")
def official_beta(answer):
    """The mean of the reverse SDE under look-ahead guidance with the official beta, from the package's field (Chapter 15)."""
    return judged(as_number(answer), _mean("official", 2), (
        (_mean("exact", 2), 'This is the theory, which beta="exact" reaches. What does beta="official" give?'),
        (_mean("official", 1), "This is the end of the flow from 0. The mean of the reverse SDE needs the doubled field; the two agree "
         "only for a true score."),
        (0.4 / 0.1, "This is the point with the value y. Even the exact posterior does not reach it, since sigma is not zero."),
    ), 'Run look_ahead with beta="official" from the start 0, with the doubled field and "rk8", down to t = 1e-6.', rtol=0.01)


@cache
def _mean(beta, factor):
    """Along u, of the flow of the field times the factor; with the factor 2 it is the mean of the SDE."""
    from guidance import optimize
    from guidance.samplers import sample

    A, _ = _bases(4, 2, np.random.default_rng(154))
    u, clock = A[:, 0], OU(0.5)
    field = optimize.look_ahead(Subspace(A, latent=GaussianMixture(np.zeros((1, 2)), covs=4.0)), 0.1 * u, 0.4, clock, beta=beta)
    times = clock.times(60, T=60.0, t_min=1e-6, spacing="log-snr")
    return float((sample(lambda x, t: factor * field(x, t), clock, np.zeros((1, 4)), times, "rk8", progress=False) @ u)[0])


# --- 16, The regularised optimum ----------------------------------------------------------------------------------


@exercise("16.2", expects="two numbers in a list, the plateau and the multiplier,")
def plateau(answer):
    """f_1 at the noise-free fixed point of the practical rule, and the derivative of a round there, by iteration (Chapter 16)."""
    value, delta, s, eps = as_array(answer, (2,)), 0.5, 0.0, 1e-6
    for _ in range(2000):
        s = _practical(s, delta, RHO)
    multiplier = (_practical(s + eps, delta, RHO) - _practical(s - eps, delta, RHO)) / (2 * eps)
    top = 10 - (s - 3) ** 2

    def at(lam):
        return 10 - (6 / (2 + lam / RHO) - 3) ** 2

    if not near(value[0], top, rtol=5e-3):
        if near(value[::-1], (top, multiplier), rtol=5e-3):
            return "The two are exchanged: the plateau comes first."
        return first_hint(value[0], (
            (s, "The first is s*. The plateau is f_1 there."),
            (at(SIGMA / delta), "The first has lambda = sigma/delta. It is the variance of the target that counts."),
            (at(delta / SIGMA**2), "The first has lambda upside down: a bolder increment weakens the regularisation."),
            (at(SIGMA**2 / delta * RHO), "The first has lost rho: along theta_2 the data have the variance 1/82."),
        ), "The plateau is not right yet. Find lambda from sigma and delta, then s* by its closed form, with rho = 1/82.", rtol=5e-3)
    lam, v = SIGMA**2 / delta, 4 * RHO * (3 - s) ** 2
    return judged(value[1], multiplier, (
        (-2 * RHO / lam, "The plateau is right. The multiplier is that of the theorem's rule, -L/lambda; the practical rule averages it "
         "with 1."),
        (-multiplier, "The plateau is right. The multiplier has the wrong sign."),
        ((v + 2 * RHO * delta) / (v + SIGMA**2), "The plateau is right. In the multiplier a sign is wrong: m enters with a minus."),
    ), "The plateau is right. For the multiplier you need v, from the gradient at s*.", rtol=5e-3)


@exercise("16.3", expects="the number of the round, an integer")
def climb(answer):
    """The first noise-free round of the practical rule in which f_1 exceeds 9.9, by iteration (Chapter 16)."""
    value, delta, orbit = as_number(answer), 0.05, [0.0]
    for _ in range(1000):
        orbit.append(_practical(orbit[-1], delta, 1.0))
    reward = 10 - (np.array(orbit) - 3) ** 2
    truth, earlier = (int(np.argmax(reward > level)) for level in (9.9, 9.8))
    if value != round(value):
        return "The number of a round is an integer."
    if value == truth:
        return None
    if abs(value - truth) == 1:
        return "Nearly: count again. The start s = 0 is round 0, and the round asked for is the first with more than 9.9."
    return judged(value, truth, (
        (earlier, "In this round the reward passes 9.8. How much longer to 9.9?"),
        ((reward[-1] - 1) / delta, "This is the straight climb of delta a round. Near the top v falls towards sigma^2: iterate the map."),
    ), "Iterate the map of one round for theta_1, rho = 1, from s = 0, and count until f_1 exceeds 9.9.", rtol=0, atol=1.6)


@exercise("16.5", expects="the mean of g^T z, a number with its sign")
def own_gradient(answer):
    """The mean of g^T z over the prior, g the gradient of f_2 with b_1 at z itself, by antithetic draws (Chapter 16)."""
    rng = np.random.default_rng(165)
    A, _ = _bases(64, 16, rng)
    z = rng.standard_normal((20_000, 16)) @ A.T
    z = np.concatenate([z, -z])  # the part that is linear in z cancels
    r = z - 4.0
    truth = float((-0.5 * (r * z).sum(1) / np.linalg.norm(r, axis=1)).mean())
    return judged(as_number(answer), truth, (
        (-truth, "The size is right. The gradient points from z to b, and z itself points away from the origin: which sign has the mean?"),
        (4 * truth, "This counts 64 dimensions. The samples vary in 16 of them only."),
        (2 * truth, "A factor 1/2 is missing: f_2 has slope 1/2."),
        (truth / 2, "There is one factor 1/2 too many: the gradient has length 1/2, and z - b has length |b| nearly."),
        (0.0, "This is the mean for a fresh sample, which is independent of g. A sample's own gradient depends on its noise."),
    ), "The part with b^T z averages out nearly. What is left is |z|^2, and |z - b| is close to |b|.", rtol=0.04, atol=1e-3)


# --- 17, Past the prior -------------------------------------------------------------------------------------------


@exercise("17.1", expects="the gap, a number")
def shorter_step(answer):
    """The gap to 10 after 1,000 noise-free rounds on f_1 with the step 1/(L + lambda), by iteration (Chapter 17)."""
    K, L = 1000, 2 * RHO

    def gap(lam, eta):
        s = 0.0
        for _ in range(K):
            s = (1 - eta * lam) * s + eta * RHO * 2 * (3 - s)
        return (3 - s) ** 2

    lam, decimal = L * np.log(K) / (4 * K), L * np.log10(K) / (4 * K)
    truth = gap(lam, 1 / (L + lam))
    return judged(as_number(answer), truth, (
        (np.sqrt(truth), "This is the distance of s from 3. The gap in reward is its square."),
        (gap(lam, 2 / (L + 2 * lam)), "This is the gap with the step of the theorem, 2/(L + 2 lambda). Half that step, nearly, is asked "
         "for."),
        (gap(decimal, 1 / (L + decimal)), "The logarithm in lambda is the natural one."),
        (truth / 9, "This is the gap as a share of the first one. The rounds start at s = 0, where the gap is 9."),
    ), "First the multiplier of a round, then where the first round lands: at x_lambda. There s = 6/(2 + lambda/rho).", rtol=0.02)


@exercise("17.2", expects="the mean of |q_60|^2, a number")
def walk(answer):
    """The mean square of the drift along directions that the reward ignores, added up round by round (Chapter 17)."""
    K, n, d, D = 60, 256, 16, 64
    variance = 1 / n  # of one coordinate of the first batch mean
    for _ in range(K):
        variance += 1 / n
    truth = (d - 1) * variance
    return judged(as_number(answer), truth, (
        (truth * K / (K + 1), "The mean of the first batch, k = 0, has an error too: count the batches again."),
        (truth * d / (d - 1), "One direction of the span does not count: the part along e is taken out."),
        (truth * (D - 1) / (d - 1), "This counts all dimensions. The samples vary in the span only."),
        (np.sqrt(truth), "This is the root mean square. The mean of the square is asked for."),
        (variance, "This is one coordinate. q has d - 1 of them."),
    ), "Each coordinate of q is a sum of independent errors of batch means, each of variance 1/n. How many errors, how many coordinates?",
        rtol=5e-3)


@exercise("17.3", expects="a function of (delta, rho, sigma)")
def cycle_gap(answer):
    """The gap of f_1 on the two-cycle of the refitted practical rule, by noise-free iteration (Chapter 17)."""
    rng = np.random.default_rng(173)
    rho, sigma = rng.uniform(0.01, 1.0, 4), rng.uniform(0.05, 0.3, 4)
    delta = rng.uniform(1.2, 1.8, 4) * sigma**2 / rho
    s = 3 - 0.5 * np.sqrt(delta)
    for _ in range(4000):
        v = 4 * rho * (3 - s) ** 2
        s = s + delta / (sigma**2 + v) * 2 * (3 - s) * rho
    truth = (3 - s) ** 2
    return judged_function(answer, "delta, rho, sigma", zip(delta, rho, sigma), truth, (
        (np.sqrt(truth), "This is epsilon, the distance of s from 3. The gap in reward is its square."),
        (4 * truth, "A factor 4 is missing: the gradient of f_1 is twice the distance, and v has its square."),
        (2 * truth, "A factor 2 is missing: the gradient of f_1 is twice the distance, and v has its square."),
        (rho * truth, "This is the gap times rho: divide once more."),
        (10 - truth, "This is the reward. The gap is what it lacks to 10."),
        ((delta - sigma / rho) / 4, "This takes sigma for sigma^2."),
    ), "On the two-cycle a round turns epsilon into -epsilon. Write a round for s - 3, set the factor to -1, and solve for epsilon^2.",
        rtol=1e-3, atol=0.0)


# --- 18, With a learned network, and on images --------------------------------------------------------------------


@exercise("18.1", expects="a function of alpha")
def noise_factor(answer):
    """The factor of the leak for a noise-predicting network, from explicit matrices with a drawn error (Chapter 18)."""
    rng = np.random.default_rng(181)
    A, _ = _bases(6, 2, rng)
    P, alphas, truth = A @ A.T, np.array([0.05, 0.3, 0.8]), []
    across = np.eye(6) - P
    for alpha in alphas:
        h = 1 - alpha**2
        exact = np.sqrt(h) * np.linalg.inv(alpha**2 * P + h * np.eye(6))  # Jacobian of E[eps | x_t]
        E, g = rng.standard_normal((6, 6)) @ across, rng.standard_normal(6)  # P E^T g = 0
        nabla = (g - np.sqrt(h) * (exact + E).T @ g) / alpha
        leak = np.linalg.norm(across @ nabla) / np.linalg.norm(P @ nabla)
        truth.append(leak * np.linalg.norm(P @ g) / np.linalg.norm(across @ E.T @ g))
    truth, root = np.array(truth), np.sqrt(1 - alphas**2)
    return judged_function(answer, "alpha", zip(alphas), truth, (
        (root / alphas, "This is the factor for the velocity. It is also that of the part across alone: divide by the length of the part "
         "in the span, which is alpha |g_par| and not |g_par|."),
        (root, "This is the factor of the part across for the velocity. Start from x_0 = (x_t - sqrt(h) eps)/alpha."),
        (root**2 / alphas**2, "h where its root belongs: eps enters x_0 with the standard deviation of the noise."),
        (1 / alphas**2, "A root of h is missing: small near the noise, not elsewhere."),
        (alphas**2 / root, "This is the inverse."),
    ), "Differentiate x_0 = (x_t - sqrt(h) eps)/alpha, subtract the same line for the true eps, and divide the part across by the "
       "length of the part in the span.")


@exercise("18.2", expects="a function of the leak")
def overshoot(answer):
    """How much too long a step is when its size is taken from the part in the span only, from drawn gradients (Chapter 18)."""
    rng = np.random.default_rng(182)
    A, off = _bases(6, 2, rng)
    nabla = rng.standard_normal((5, 6)) @ np.diag(rng.uniform(0.2, 3.0, 6))
    inside, across = (np.linalg.norm(nabla @ basis, axis=1) for basis in (A, off))
    leak = across / inside
    alpha, h, sigma = 0.6, 0.64, 1e-8  # the official beta, with a target of vanishing noise
    right, wrong = (alpha**2 / 2 / (alpha**2 * sigma**2 + h * size) for size in ((nabla**2).sum(1), inside**2))
    truth = wrong / right
    return judged_function(answer, "leak", zip(leak), truth, (
        (1 / truth, "This is the inverse: with the smaller size, is beta larger or smaller?"),
        (np.sqrt(truth), "This is the quotient of the norms. beta has their squares."),
        (1 + leak, "Lengths at a right angle do not add. Their squares do."),
        (leak**2, "This leaves out the part in the span, which belongs to the whole gradient."),
    ), "beta has `size` in its denominator. Compare the squared length of the whole gradient with that of its part in the span.")


@exercise("18.3", expects="the factor, a number above 1,")
def direction(answer):
    """By how much the part in the span of a unit vector grows from theta_2 to equal parts, from explicit vectors (Chapter 18)."""
    A, off = _bases(64, 16, np.random.default_rng(183))
    inside, across = A[:, 0], off[:, 0]
    old, new = ((inside + k * across) / np.linalg.norm(inside + k * across) for k in (9, 1))
    in_span = [np.linalg.norm(A.T @ g) for g in (old, new)]
    truth = in_span[1] / in_span[0]
    value = as_number(answer)
    if 0 < value < 1:
        return "A leak is a ratio of lengths; the factor asked for is the old leak over the new one, and the new one is smaller."
    return judged(value, truth, (
        (1 / in_span[0], "This is the ratio of the two parts of theta_2, or the length of theta_2 over its part in the span. The new "
         "vector has length 1, too, but not all of it in the span."),
        (truth**2, "This is the factor between the squares."),
        (9 * truth, "If the error treats all directions alike, |E^T g| does not change with the direction. Only |g_par| does."),
    ), "Which of the factors in the formula depends on the direction, if the error of the Jacobian treats all directions alike?", rtol=0.01)
