"""Checks of the exercises in Part I."""
from functools import cache

import numpy as np

import guidance as g
from guidance.checks import exercise
from guidance.checks.judging import as_array, as_choice, as_number, drawn, first_hint, judged, judged_function, near, values_of
from guidance.checks.laws import PAIR, PROCESS, normal_nodes


def _ring():
    turn = 2 * np.pi * np.arange(8) / 8
    return g.GaussianMixture(2 * np.stack([np.cos(turn), np.sin(turn)], axis=1), covs=0.05, labels=np.arange(8) % 2)


# Chapter 1, Noising


@exercise("1.1", expects="a function of two angles in radians that returns the angle after both noisings")
def semigroup(answer):
    """Times add under OU, so the angle after both is that of the sum of the times (Chapter 1)."""
    def truth(first, second):
        return PROCESS.angle(PROCESS.time(first) + PROCESS.time(second))

    return judged_function(answer, "first, second", drawn(0, (0.2, 1.3), (0.2, 1.3)), truth, [
        (lambda a, b: np.cos(a) * np.cos(b), "This is the cosine of the angle; the angle itself is asked for."),
        (lambda a, b: np.cos(truth(a, b)) ** 2, "This is a square of a cosine; the angle itself is asked for."),
        (lambda a, b: a + b, "Times add under OU, angles do not: your sum can pass 90 degrees."),
        (lambda a, b: np.degrees(truth(a, b)), "This is right in degrees; the check asks for radians."),
        (lambda a, b: np.arcsin(np.sin(a) * np.sin(b)), "This multiplies the noise. Ask what the second noising does to the signal."),
        (lambda a, b: np.hypot(a, b), "Variances can add, angles do not. Ask what the second noising does to the signal."),
    ], "Write the signal that is left after both noisings, and remember that it is the cosine of the angle.")


@exercise("1.2", expects="the three times in a list")
def clocks(answer):
    """Times of equal angle sigma / alpha in the three processes (Chapter 1)."""
    ou, vp, ve = PROCESS, g.VP(), g.VE()
    values = as_array(answer, (3,))
    truth = [ou.time(vp.angle(1.0)), ou.time(ve.angle(80.0)), ve.time(ou.angle(10.0))]
    mistakes = [
        [(2 * truth[0], "This is the integral of the rate; the signal has half of it in the exponent.")],
        [(2 * truth[1], "A square root is missing: the ratio is sigma over alpha, not its square."),
         (ou.time(1.0), "The angle is not 1; it is the arctangent of sigma over alpha.")],
        [(truth[2] ** 2, "A square root is missing: the ratio is sigma over alpha, not its square."),
         (ou.sigma(10.0), "This matches sigma alone. Signal and noise count: match the ratio of sigma to alpha.")],
    ]
    for name, value, right, wrong in zip(("VP at 1", "VE at 80", "OU at 10"), values, truth, mistakes):
        if hint := judged(value, right, wrong, "Match the angle, that is, the ratio of sigma to alpha."):
            return f"{name}: {hint}"


@exercise("1.4", expects="the slope")
def slope(answer):
    """-2k for the first Hermite average h_k that is not zero (Chapter 1)."""
    law = g.GaussianMixture([[-0.4], [1.6]], weights=[0.8, 0.2], covs=0.36)
    nodes, weights = normal_nodes(40)
    points = law.means + 0.6 * nodes  # (2, 40)
    averages = [law.weights @ np.polynomial.hermite_e.HermiteE.basis(k)(points) @ weights for k in range(1, 7)]
    first = 1 + int(np.argmax(np.abs(averages) > 1e-9))
    truth = -2.0 * first
    return judged(as_number(answer), truth, [
        (-truth, "The size is right, the sign is not: does the divergence grow or fall?"),
        (truth / 2, "A feature fades at this rate; how does the chi-square depend on the feature?"),
        (-2.0, "This is the slope where the mean of the data differs from that of noise. Compute the mean."),
        (-4.0, "This is the slope where the variance of the data differs from that of noise. Compute the variance."),
        (-8.0, "This is the slope for a symmetric law of mean 0 and variance 1. Is this law symmetric?"),
    ], "Compute the averages of He_1, He_2, He_3, ... under p_0. Which is the first that is not zero?", rtol=0, atol=0.05)


@exercise("1.5", expects="the limit of W_2")
def too_much_noise(answer):
    """The distance from N(0, 1) to the limit of dX = -X dt + sqrt(3) dB (Chapter 1)."""
    from scipy.integrate import quad

    variance = quad(lambda s: 3 * np.exp(-2 * s), 0, np.inf)[0]
    nodes, weights = normal_nodes(20)
    truth = np.sqrt(weights @ (np.sqrt(variance) * nodes - nodes) ** 2)
    return judged(as_number(answer), truth, [
        (variance - 1, "This compares variances. W_2 compares quantiles, which grow with the standard deviation."),
        (truth**2, "This is the square of W_2."),
        (np.sqrt(3) - np.sqrt(2), "This compares the two rates g. Compare the two limit laws."),
        (np.sqrt(3) - 1, "The limit's variance is not g squared: the walk also shrinks. Solve for the variance at large t."),
        (np.sqrt(variance), "This is the standard deviation of the limit. How far is its law from N(0, 1)?"),
        (0.0, "The distance to the limit law tends to zero, but is the limit N(0, 1)?"),
    ], "Find the variance of the limit, then write its quantile at level Phi(xi) and compare it with xi.", rtol=5e-3)


# Chapter 2, Scores and denoisers


@exercise("2.1", expects="a function of (x, m, v, alpha, sigma) that returns the denoiser and the posterior variance")
def shrink(answer):
    """Denoiser and posterior variance of N(m, v), from score and Hessian of the noised law (Chapter 2)."""
    instances = [(*case, float(np.sqrt(1 - case[-1] ** 2))) for case in drawn(1, (-2, 2), (-2, 2), (0.2, 3), (0.3, 0.95))]
    values, complaint = values_of(answer, "x, m, v, alpha, sigma", instances, (2,))
    if complaint:
        return complaint
    truth = []
    for x, m, v, alpha, sigma in instances:
        law, point = g.GaussianMixture([[m]], covs=v).noised(alpha, sigma), np.array([[x]])
        truth.append([g.process.denoiser(law.score(point), point, alpha, sigma)[0, 0],
                      sigma**2 / alpha**2 * (1 + sigma**2 * law.hessian(point)[0, 0, 0])])
    x, m, v, alpha, sigma = np.transpose(instances)
    (D, variance), total = np.transpose(truth), alpha**2 * v + sigma**2
    if not near(values[:, 0], D, 1e-6, 1e-12):
        return "The denoiser: " + first_hint(values[:, 0], [
            (2 * x / alpha - D, "The sign of the score is wrong: it points towards the mean of the noised law."),
            (alpha * D, "This is an estimate of alpha x_0; divide by alpha."),
            (x / alpha, "This knows nothing of m and v: it is the limit of large v."),
            (m + v / (v + sigma**2) * (x - m), "This is right only for alpha = 1. What are mean and variance of the noised law?"),
            (m + alpha * v / total * (x - m), "The noised law is not centred at m; noising shrinks the mean too."),
            ((x - sigma**2 * (x - alpha * m) / v) / alpha, "The score of the noised law has the noised variance below the line, not v."),
        ], "Write the score of the noised law, then use Tweedie's formula.", 1e-6, 1e-12)
    if not near(values[:, 1], variance, 1e-6, 1e-12):
        return "The denoiser is right. The posterior variance: " + first_hint(values[:, 1], [
            (np.sqrt(variance), "This is the standard deviation."),
            (total, "This is the variance of x_t. Asked is that of x_0 once x_t is seen."),
            (sigma**2 * v / (v + sigma**2), "This is right only for alpha = 1."),
            (sigma**2 / alpha**2 * (1 + sigma**2 / total), "The second derivative of a Gaussian log-density is negative."),
            (variance * alpha**2, "This is the variance of alpha x_0; mind the alpha."),
            (sigma**2 / alpha**2, "This knows nothing of v: it is the limit of large v."),
        ], "Differentiate the score once more and use the second formula of the theorem.", 1e-6, 1e-12)


@exercise("2.2", expects="the ratio of sigma to alpha")
def hole(answer):
    """Where the second derivative of the noised ring's log-density at the centre changes sign (Chapter 2)."""
    from scipy.optimize import brentq

    ring = _ring()

    def bend(ratio):
        alpha = 1 / np.hypot(1, ratio)
        return ring.noised(alpha, alpha * ratio).hessian(np.zeros((1, 2)))[0, 0, 0]

    truth = brentq(bend, 0.5, 3)
    alpha = 1 / np.hypot(1, truth)
    return judged(as_number(answer), truth, [
        (truth**2, "This is the square of the ratio."),
        (1 / truth, "This is alpha over sigma."),
        (alpha * truth, "This is sigma; divide it by alpha."),
        (alpha, "This is alpha; asked is the ratio of sigma to it."),
        (np.hypot(truth, np.sqrt(0.05)), "The components have a width of their own, variance 0.05, before any noise."),
        (np.sqrt(4 - 0.05), "This treats the ring as two points at distance 2 on a line. In the plane each direction sees only part of a "
         "centre's distance."),
    ], "The score is zero at the centre. Look at its slope there and find where that changes sign.", rtol=5e-3)


@exercise("2.5", expects="the mean squared error")
def best_loss(answer):
    """The mean trace of the posterior covariance on the ring, by a sum over the plane (Chapter 2)."""
    alpha, sigma = 0.8, 0.6
    axis = np.linspace(-5, 5, 201)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    law = _ring().noised(alpha, sigma)
    weight = np.exp(law.log_prob(plane))
    weight /= weight.sum()
    square, factor = weight @ (law.score(plane) ** 2).sum(1), sigma**2 / alpha**2
    truth = factor * (2 - sigma**2 * square)
    return judged(as_number(answer), truth, [
        (truth / 2, "This is the error of one coordinate; the square of the distance sums over both."),
        (np.sqrt(truth), "This is the root of the mean squared error."),
        (truth / factor, "This is the error of the noise prediction. How does an error in the noise carry over to x_0?"),
        (truth / factor**2, "The factor of the noise prediction's error is upside down."),
        (2 * factor, "This is the error of the raw guess x / alpha, which ignores the law of the data."),
        (factor * (1 - sigma**2 * square), "The ring lies in the plane: d is not 1."),
        (factor * (2 - square), "The mean square of the score comes with a factor sigma squared."),
    ], "Draw x_0 and the noise, form x_t, denoise with the score of the noised ring, and average the squared distance.", rtol=0.02)


@exercise("2.6", expects="a function of (x, alpha) that returns the gradient of log p_t(c = 1 | x)")
def classifier(answer):
    """The conditional score of the pair less the unconditional one (Chapter 2)."""
    def truth(x, alpha):
        sigma, point = np.sqrt(1 - alpha**2), np.array([[x]])
        return (PAIR.given(1).noised(alpha, sigma).score(point) - PAIR.noised(alpha, sigma).score(point))[0, 0]

    def chance(x, alpha):
        return PAIR.noised(alpha, np.sqrt(1 - alpha**2)).posterior(np.array([[x]]), 1)[0]

    return judged_function(answer, "x, alpha", drawn(2, (-2, 2), (0.2, 0.95)), truth, [
        (lambda x, a: -truth(x, a), "The sign is wrong: class 1 lies on the right."),
        (lambda x, a: truth(x, a) - 2 * a, "This is the gradient for class 0."),
        (lambda x, a: truth(x, a) * chance(x, a), "This is the gradient of the probability, not of its logarithm."),
        (lambda x, a: truth(x, a) / 2, "A factor is missing: how far apart are the two centres?"),
        (lambda x, a: 2 * a, "This is the difference between the scores of the two classes. Subtract the score of the whole law from "
         "that of class 1."),
        (lambda x, a: truth(x, 1.0), "This is the classifier of clean points. Noise moves the centres: where are they at alpha?"),
        (lambda x, a: chance(x, a), "This is the probability of class 1 itself."),
    ], "Write the log-odds of the two noised components, then p_t(1 | x), then differentiate its logarithm.")


# Chapter 3, Reversing time


@exercise("3.3", expects="the variance")
def one_step(answer):
    """The variance of D(x) at T = 10 for the pair and x drawn from N(0, 1) (Chapter 3)."""
    nodes, weights = normal_nodes(40)
    end = g.sample(g.cfg(PAIR, 1, -1.0, PROCESS), PROCESS, nodes[:, None], [10.0, 0.0], "ddpm", noise=np.zeros((1, 40, 1)))[:, 0]
    truth = weights @ end**2
    return judged(as_number(answer), truth, [
        (2.0, "This is the variance of the data. How much does one look at pure noise say about x_0?"),
        (1.0, "This is the variance of the start. What does the last step return?"),
        (np.sqrt(truth), "This is the standard deviation."),
        (truth / 4, "A factor is missing: both the point and the pull of the two centres on it count, and they are equally large."),
        (truth / 2, "A factor is missing: is it inside or outside of the square?"),
        (0.0, "It is small, but not zero: the pair is still visible at T, a little."),
    ], "At the end no noise is drawn and the output is the denoiser at T. Write it for small exp(-T).", rtol=0.02)


@exercise("3.4", expects="a function of (h, n) that returns the variance after n steps")
def walk_variance(answer):
    """The variance of Euler-Maruyama for data N(0, 1), from the two coefficients of one step (Chapter 3)."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))

    def walked(n, factor, added, variance=1.0):
        for _ in range(n):
            variance = factor * variance + added
        return variance

    def carried(h, n, start=1.0):
        keep, fresh = (g.sample(lambda x, t: -x, PROCESS, x, [2 * h, h], "euler-maruyama", noise=noise[None])[0, 0]
                       for x, noise in ((one, zero), (zero, one)))
        return walked(n, keep**2, fresh**2, start)

    rng = np.random.default_rng(3)
    instances = [(float(rng.uniform(0.2, 1.6)), int(n)) for n in rng.integers(2, 7, 5)]
    return judged_function(answer, "h, n", instances, carried, [
        (lambda h, n: 1 / (1 - h / 2), "This is the limit of many steps; after n of them the start still counts."),
        (lambda h, n: np.sqrt(carried(h, n)), "This is the standard deviation."),
        (lambda h, n: carried(h, n, 0.0), "The start has variance 1, not 0."),
        (lambda h, n: carried(h, n - 1), "This is one step too few."),
        (lambda h, n: carried(h, n + 1), "This is one step too many."),
        (lambda h, n: walked(n, (1 - h) ** 2, h), "The noise of a step has variance g squared times h, and g is not 1."),
        (lambda h, n: walked(n, 1 - h, 2 * h), "A step multiplies x by 1 - h. What does it do to the variance?"),
        (lambda h, n: 1.0, "This is the exact reverse SDE. A step of size h keeps a little too much."),
    ], "Write one step as a multiple of x plus noise. What does it do to the variance? Then repeat it n times.")


@exercise("3.5", expects="the ratio at t = 1 and h = 0.1")
def eta_lambda(answer):
    """kappa_1 squared over g squared h, from one ddpm step at a point whose denoiser is zero (Chapter 3)."""
    t, h = 1.0, 0.1

    def ratio(t, h):
        kappa = g.sample(lambda x, t: -x, PROCESS, np.zeros((1, 1)), [t, t - h], "ddpm", noise=np.ones((1, 1, 1)))[0, 0]
        return kappa**2 / (PROCESS.diffusion(t) ** 2 * h)

    truth, g_squared = ratio(t, h), PROCESS.diffusion(t) ** 2
    added = PROCESS.sigma(t) ** 2 - (PROCESS.alpha(t) / PROCESS.alpha(t - h) * PROCESS.sigma(t - h)) ** 2
    return judged(as_number(answer), truth, [
        (truth * g_squared * h, "This is kappa_1 squared; divide it by g squared times h."),
        (np.sqrt(truth * g_squared * h), "This is kappa_1; square it and divide by g squared times h."),
        (truth * g_squared, "This divides by h alone; g is the square root of 2."),
        (truth * np.sqrt(g_squared), "This divides by g once; its square is asked for."),
        (np.sqrt(truth), "This is the square root of the ratio."),
        (np.sqrt(truth / (g_squared * h)), "This is kappa_1 over g squared h, with kappa_1 not squared."),
        (added / (g_squared * h), "This is the noise of the forward step. The backward step has a little less: see the factor in front."),
        (ratio(t + h, h), "This goes from 1.1 to 1. The step starts at t = 1 and ends at the earlier time."),
        (1.0, "This is the limit of small h; asked is the value at h = 0.1."),
    ], "Put t = 1 and u = 0.9 in the formula for kappa_1.", rtol=5e-3)


@exercise("3.6", expects="the two factors in a list")
def wrong_sign(answer):
    """The stretch of the linear flow dx/dtau = x + s or x - s for data N(0, 1) (Chapter 3)."""
    from scipy.integrate import quad

    law = g.GaussianMixture([[0.0]], covs=1.0)

    def factor(sign):  # the score at x = 1 is the slope of the score
        return np.exp(quad(lambda t: 1 + sign * law.noised(PROCESS.alpha(t), PROCESS.sigma(t)).score(np.ones((1, 1)))[0, 0], 0, 10)[0])

    wrong, right = as_array(answer, (2,))
    truth = factor(-1), factor(1)
    if near(wrong, truth[1], 0.02) and near(right, truth[0], 0.02):
        return "The two are in the wrong order: the wrong sign comes first."
    if not near(wrong, truth[0], 0.05):
        return "The wrong sign: " + first_hint(wrong, [
            (1 / truth[0], "This runs forwards in time. Backwards, from T to 0, the drift has the other sign."),
            (np.sqrt(truth[0]), "One of two terms is missing: the drift and the score both count."),
            (truth[0] ** 1.5, "This is the drift of the reverse SDE. The ODE has half of its score."),
            (np.log(truth[0]), "This is the logarithm of the factor."),
            (truth[1], "With the wrong sign the two terms no longer cancel."),
        ], "Write dx/dtau for the ODE in reverse time, put the wrong score in, and solve it from 0 to T.", rtol=0.05)
    if not near(right, truth[1], 0.02):
        return "The right sign: " + first_hint(right, [
            (np.exp(-10.0), "This is the drift of the reverse SDE. The ODE has half of its score."),
            (1 / truth[0], "A wrong sign does not turn the flow round; compute each case by itself."),
        ], "Put s = -x in the ODE. What remains?", rtol=0.02)


# Chapter 4, Learning a score


@exercise("4.1", expects="the least denoising loss at t = 1")
def floor(answer):
    """d / sigma^2 less the mean square of the score, for the pair at t = 1, by a sum on a grid (Chapter 4)."""
    def parts(t):
        x, step = np.linspace(-10, 10, 2001, retstep=True)
        law = PAIR.noised(PROCESS.alpha(t), PROCESS.sigma(t))
        return PROCESS.sigma(t) ** 2, np.sum(np.exp(law.log_prob(x[:, None])) * law.score(x[:, None])[:, 0] ** 2) * step

    noise, square = parts(1.0)
    half, half_square = parts(0.5)
    truth = 1 / noise - square
    return judged(as_number(answer), truth, [
        (0.0, "The exact score has no error, but its denoising loss is not zero: x_t does not reveal the noise."),
        (square, "This is the mean square of the score, one of the two terms."),
        (1 / noise, "This is the mean square of the target, one of the two terms."),
        (truth * noise, "This is the least loss of a noise prediction; the target here is the noise over sigma."),
        (1 - square, "The target is the noise over sigma: its mean square is not 1."),
        (1 / np.sqrt(noise) - square, "The mean square of the target has sigma squared below the line."),
        (1 / half - half_square, "This is the value at t = 0.5, which the chapter prints. Asked is t = 1."),
    ], "Sum the square of the exact score against the density of the noised pair on a grid, and use the formula for C.", rtol=5e-3)


@exercise("4.2", expects="a function of (e, phi, w) that returns the length of the guided error")
def cancel(answer):
    """The length of the guided combination of two vectors of length e at an angle phi (Chapter 4)."""
    def vector(e, phi):
        return np.array([[e * np.cos(phi), e * np.sin(phi)]])

    def truth(e, phi, w):
        both = g.cfg.combine(lambda x, t: vector(e, 0.0), lambda x, t: vector(e, phi), w)(None, 0.0)
        return np.linalg.norm(both)

    return judged_function(answer, "e, phi, w", drawn(4, (0.2, 3), (0.2, 3), (0.3, 5)), truth, [
        (lambda e, phi, w: truth(e, phi, w) ** 2, "This is the square of the length."),
        (lambda e, phi, w: truth(1.0, phi, w), "The length e of the two errors is missing."),
        (lambda e, phi, w: truth(e, phi, w - 1), "This is g in the place of w: the conditional error counts 1 + w times, the other "
         "w times."),
        (lambda e, phi, w: truth(e, np.pi - phi, w), "A sign is wrong: the unconditional error is subtracted."),
        (lambda e, phi, w: (1 + 2 * w) * e, "This is the bound. It is reached for one angle only; yours is phi."),
        (lambda e, phi, w: truth(e, np.pi / 2, w), "This holds for errors at a right angle. Where is phi?"),
        (lambda e, phi, w: truth(e, np.radians(phi), w), "The angle phi is in radians."),
        (lambda e, phi, w: w * truth(e, phi, 0.0), "The conditional error counts 1 + w times, not w times."),
    ], "Write the guided error as a difference of two vectors and expand the square of its length.")


@exercise("4.5", expects="a function of theta that returns the weight of the score's error")
def weights(answer):
    """The squared change of the velocity for a unit change of the score (Chapter 4)."""
    def truth(theta):
        alpha, sigma = np.cos(theta), np.sin(theta)
        return (g.process.velocity(1.0, 0.7, alpha, sigma) - g.process.velocity(0.0, 0.7, alpha, sigma)) ** 2

    return judged_function(answer, "theta", drawn(5, (0.2, 1.4)), truth, [
        (lambda theta: np.sqrt(truth(theta)), "This is the rate of the lengths. The loss holds their squares."),
        (lambda theta: 1 / truth(theta), "This is upside down: it would turn an error of the velocity into one of the score."),
        (lambda theta: np.sin(theta) ** 2, "This is the weight for a network that predicts the noise."),
        (lambda theta: (np.sin(theta) * np.tan(theta)) ** 2, "This is the weight for a network that predicts the clean point."),
        (lambda theta: 1.0, "The loss is uniform in the error of v. An error of the score has another length."),
        (lambda theta: np.tan(np.radians(theta)) ** 2, "The angle theta is in radians."),
    ], "Find the rate at which an error of the score turns into an error of v, then square it.")


# Chapter 5, Guidance


@exercise("5.1", expects="a function of (w_1, w_2) that returns the single strength")
def twice(answer):
    """The strength of guidance applied to a guided field, read off the fields of the pair at one point (Chapter 5)."""
    x, t = np.array([[0.3]]), 0.5

    def field(w):
        return g.cfg(PAIR, 1, w, PROCESS)

    def truth(first, second):
        plain, everything = field(0.0)(x, t), field(-1.0)(x, t)
        both = g.cfg.combine(field(first), field(-1.0), second)(x, t)
        return ((both - plain) / (plain - everything))[0, 0]

    return judged_function(answer, "w_1, w_2", drawn(6, (0.3, 4), (0.3, 4)), truth, [
        (lambda a, b: a + b, "The second guidance acts on a field that is guided already: a term is missing."),
        (lambda a, b: a * b, "At w_1 = w_2 = 0 this is right. What if only one of them is 0?"),
        (lambda a, b: (1 + a) * (1 + b), "This is the scale g. Asked is the strength w."),
        (lambda a, b: a + b - a * b, "A sign is wrong. Try w_1 = w_2 = 1 by hand."),
        (lambda a, b: truth(a, b) + 2, "The scale is 1 + w: subtract, do not add, to come back to w."),
    ], "Write s_w1 as s plus a multiple of the classifier gradient. Which multiple has s_w1 - s?")


@exercise("5.2", expects="mean and variance at w = -1 in a list")
def minus_one(answer):
    """Mean and variance of the guided flow of the pair at w = -1 (Chapter 5)."""
    def moments(w):
        flow = g.exact.FlowMap(PAIR, 1, w)
        return [flow.mean(), flow.variance()]

    truth = moments(-1.0)
    return judged(as_array(answer, (2,)), truth, [
        ([1.0, 1.0], "This is w = 0, the class itself."),
        ([-1.0, 1.0], "This is the other class. Put w = -1 in the formula for the guided score: which score remains?"),
        ([0.0, np.sqrt(truth[1])], "The mean is right; the second number is the standard deviation."),
        ([0.0, 1.0], "The mean is right. The variance has two parts: within a component and between the components."),
        (lambda: moments(-0.5), "This is w = -0.5, the second question."),
        ([1.0, 2.0], "The variance is right. Where is the middle of that law?"),
    ], "Put w = -1 in the formula for the guided score. Whose score is that?", rtol=0, atol=0.02)


@exercise("5.3", expects="the three changes in a list")
def wrong_scale(answer):
    """What w = 3 in the place of g = 3 does to the flow of the pair (Chapter 5)."""
    values, truth = as_array(answer, (3,)), _summary(3.0) - _summary(2.0)
    return judged(values, truth, [
        (-truth, "The signs are reversed: take what you get, less what your colleague had."),
        (lambda: _summary(4.0) - _summary(3.0), "This is w = 4 against w = 3. Which strength w is g = 3?"),
        (lambda: _summary(3.0) - _summary(0.0), "This compares with no guidance at all. Your colleague had g = 3."),
        (_summary(3.0), "These are the values of your run. Subtract your colleague's."),
        (_summary(2.0), "These are the values of your colleague. Asked is the change to yours."),
    ], "Translate g = 3 to w first, then compare two flow maps.", rtol=0, atol=1e-3)


@cache
def _summary(w):
    flow = g.exact.FlowMap(PAIR, 1, w)
    return np.array([flow.mean(), flow.entropy(), flow.expect(lambda x: PAIR.posterior(x[:, None], 1))])


@exercise("5.6", expects="two words in brackets")
def interval(answer):
    """Which of early and late guidance moves the mean of the pair more, and which lowers the entropy more (Chapter 5)."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ValueError(f"answer must be two words, for the mean and for the entropy, not {answer!r}")
    mean, entropy = (as_choice(word, ("early", "late")) for word in answer)
    late = g.exact.FlowMap(PAIR, 1, lambda t: 3.0 * (t < 0.5), breaks=(0.5,))
    early = g.exact.FlowMap(PAIR, 1, lambda t: 3.0 * (t >= 0.5), breaks=(0.5,))
    plain = g.exact.FlowMap(PAIR, 1, 0.0)
    moves, lowers = ({name: abs(getattr(flow, what)() - getattr(plain, what)()) for name, flow in (("early", early), ("late", late))}
                     for what in ("mean", "entropy"))
    wrong = [name for name, word, size in (("mean", mean, moves), ("entropy", entropy, lowers)) if word != max(size, key=size.get)]
    if len(wrong) == 2:
        return ("Neither guess is right. At which noise does guidance push every point alike, and at which only the points on the wrong "
                "side?")
    if wrong == ["mean"]:
        return "The entropy is right, the mean is not. Which points does guidance push while the classes overlap everywhere?"
    if wrong == ["entropy"]:
        return "The mean is right, the entropy is not. A push that is the same for all points narrows nothing."
