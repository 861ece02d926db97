# %% [markdown] nbgrader={"grade": false, "grade_id": "ps5-title", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 5: guidance as optimisation
#
# **You will** write the look-ahead term and the naive one, compute how far a naive push carries samples off a subspace, run
# guided rounds with and without a refit, say which rounds settle before you run them, and prove what the look-ahead term does
# not see.
#
# **You need** Part V, chapters 15 (Keep the subspace) to 17 (Past the prior); for the last problem also chapter 18 (With a
# learned network, and on images). **Time** 115 minutes. **Points** 40.
#
# Run the first cell, then replace every `raise NotImplementedError()` by your own code and every "YOUR ANSWER HERE" by your own
# words. The cell below each problem holds a few quick tests: they catch slips, and passing them is not yet full marks. The
# grader tests the same properties on other laws and rewards. NumPy and SciPy are enough for everything; the grader does not
# lend you `GaussianMixture`, `Subspace`, `guidance.manifolds`, `guidance.optimize` and `metrics.off_support_ratio`.
#
# The letters are those of Part V: $\sigma$ is the standard deviation of the *target*, and the variance of the noise in $x_t$ is
# written $h$. Points are rows. An array passes if no entry is wrong by more than $10^{-6}$ of the largest entry, unless a problem
# says otherwise.

# %% nbgrader={"grade": false, "grade_id": "ps5-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# %% tags=["private"]
from scipy.optimize import brentq

from guidance import GaussianMixture, Subspace, manifolds, metrics

withheld = ["guidance.mixtures.GaussianMixture", "guidance.manifolds.Subspace",
            "guidance.manifolds.tweedie", "guidance.manifolds._mixture_moments",
            "guidance.manifolds._denoiser", "guidance.optimize.look_ahead",
            "guidance.optimize.gradient_guidance", "guidance.optimize.algorithm_1",
            "guidance.optimize.algorithm_2", "guidance.optimize._look_ahead",
            "guidance.optimize._naive", "guidance.optimize._exact_draw",
            "guidance.optimize._moved", "guidance.metrics.off_support_ratio"]


def draw_covariance(rng, d):
    """A covariance (d, d) with eigenvalues between 0.3 and 2 in directions of no preference."""
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return Q * rng.uniform(0.3, 2, d) @ Q.T


def draw_full(rng, D=4):
    """A Gaussian law that fills the space, with its mean and covariance."""
    mu, Sigma = rng.uniform(-1.5, 1.5, D), draw_covariance(rng, D)
    return GaussianMixture(mu[None], covs=Sigma[None]), mu, Sigma


def draw_flat(rng, D=6, d=2):
    """A Gaussian law on an affine subspace: law, mean, covariance, directions (D, d)."""
    A = np.linalg.qr(rng.standard_normal((D, d)))[0]
    covariance = draw_covariance(rng, d)
    latent = GaussianMixture(rng.uniform(-1.5, 1.5, (1, d)), covs=covariance[None])
    law = Subspace(A, latent=latent, centre=rng.uniform(-1, 1, D))
    return law, law.mean(), law.cov(), A


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def relative_error(value, truth):
    value, truth = np.asarray(value, dtype=float), np.asarray(truth, dtype=float)
    assert value.shape == truth.shape, f"the shape is {value.shape}, not {truth.shape}"
    assert np.isfinite(value).all(), "there are values that are not finite"
    return np.abs(value - truth).max() / np.abs(truth).max()


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps5-text-1", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 1. Two ways to add a gradient (10 points, 30 minutes, code)
#
# The data are Gaussian, $x_0 \sim N(\mu, \Sigma)$, and $x_t = \alpha x_0 + \sqrt h\,\varepsilon$ with $0 < \alpha < 1$ and
# $h = 1 - \alpha^2$. A reward with gradient $g$ is replaced by the measurement $Y = g^\top x_0 + \sigma\varepsilon'$, and we
# ask for $Y = y$. Here $\varepsilon$ and $\varepsilon'$ are independent standard Gaussian noises. **$\Sigma$ may be singular**:
# then the data fill only $\mu$ plus the range of $\Sigma$. Nothing below needs its inverse.
#
# All of it is jointly Gaussian, and for jointly Gaussian $a$ and $b$
#
# $$E[a \mid b] = E[a] + \operatorname{Cov}(a, b)\operatorname{Cov}(b)^{-1}(b - E[b]), \qquad
# \operatorname{Cov}(a \mid b) = \operatorname{Cov}(a) - \operatorname{Cov}(a, b)\operatorname{Cov}(b)^{-1}\operatorname{Cov}(b, a).$$
#
# The points `x` are $(n, D)$; `mu` and `g` are $(D,)$, `Sigma` is $(D, D)$, the rest are numbers. Write
#
# - `denoise(x, alpha, mu, Sigma)`: the denoiser $\hat x_0 = E[x_0 \mid x_t = x]$ of each row, $(n, D)$;
# - `look_ahead_term(x, alpha, mu, Sigma, g, y, sigma)`: $G_{\text{loss}} = -\beta\,\nabla_x\,(y - g^\top \hat x_0)^2$ at each
#   row, $(n, D)$. The gradient passes through the denoiser, and $\beta = 1/(2\operatorname{Var}(Y \mid x_t))$;
# - `naive_term(x, alpha, mu, Sigma, g, y, beta)`: $G_{\text{naive}} = \beta\,(y - g^\top\hat x_0)\,g$ with the given number
#   `beta`, $(n, D)$;
# - `off_ratio(x, B)`: the off-support ratio $|x_\perp|/|x_\parallel|$ of each row for the span of the columns of `B`, $(n,)$.
#   `B` is $(D, m)$ with $m < D$; its columns are linearly independent, but **need not be orthonormal**. No row is orthogonal to
#   the span.

# %% nbgrader={"grade": false, "grade_id": "ps5-terms", "locked": false, "schema_version": 3, "solution": true, "task": false}
def denoise(x, alpha, mu, Sigma):
    """E[x_0 | x_t = x] for x_0 ~ N(mu, Sigma): x (n, D) -> (n, D)."""
    ### BEGIN SOLUTION
    gain = np.linalg.solve(alpha**2 * Sigma + (1 - alpha**2) * np.eye(len(mu)), alpha * Sigma)
    return mu + (x - alpha * mu) @ gain
    ### END SOLUTION


def look_ahead_term(x, alpha, mu, Sigma, g, y, sigma):
    """The look-ahead term with the exact beta: x (n, D) -> (n, D)."""
    ### BEGIN SOLUTION
    gain = np.linalg.solve(alpha**2 * Sigma + (1 - alpha**2) * np.eye(len(mu)), alpha * Sigma)
    slope = gain @ g  # the gradient of g^T x_0-hat
    variance = sigma**2 + g @ (Sigma - alpha * Sigma @ gain) @ g
    miss = y - denoise(x, alpha, mu, Sigma) @ g
    return miss[:, None] * slope / variance
    ### END SOLUTION


def naive_term(x, alpha, mu, Sigma, g, y, beta):
    """The naive term: x (n, D) -> (n, D)."""
    ### BEGIN SOLUTION
    return beta * (y - denoise(x, alpha, mu, Sigma) @ g)[:, None] * g
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps5-check-terms", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
# Quick tests: data on the first axis of a plane, with mean 0 and variance 1 there.
# 8 points for these three functions.
x, line, g = np.array([[1.0, 3.0], [-0.5, 0.2]]), np.diag([1.0, 0.0]), np.array([1.0, 1.0])
flat = denoise(x, 0.6, np.zeros(2), line)
assert np.allclose(flat[:, 1], 0), "the second coordinate of the data is always 0"
m = np.array([2.0, 0.0])
assert np.allclose(denoise(0.6 * m[None], 0.6, m, line), m), "the mean of x_t comes from that of x_0"
term = look_ahead_term(x, 0.6, np.zeros(2), line, g, 2.0, 0.1)
assert term[0, 0] > 0, "a larger value is asked for than is predicted"
assert naive_term(x, 0.6, np.zeros(2), line, g, 2.0, 1.0).shape == (2, 2)
### BEGIN HIDDEN TESTS
def problem(law, mu, Sigma):
    """Points at a noise level, a direction, a target beyond all predictions, and the truth."""
    D, alpha, sigma = len(mu), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.6)
    g, h = 2 * unit(rng.standard_normal(D)), 1 - alpha**2
    x = alpha * law.sample(30, rng)[0] + np.sqrt(h) * rng.standard_normal((30, D))
    score, value, gradient = manifolds.tweedie(law, alpha, np.sqrt(h))(x, g)
    y = value.max() + 1.0
    variance = sigma**2 + h / alpha * (g @ np.broadcast_to(gradient, x.shape)[0])
    truth = (y - value)[:, None] * gradient / variance
    return x, (alpha, mu, Sigma), g, y, sigma, (x + h * score) / alpha, truth, value


law, mu, Sigma = draw_full(rng)
x, given, g, y, sigma, clean, truth, value = problem(law, mu, Sigma)
flat, mu_flat, Sigma_flat, A = draw_flat(rng)
x_2, given_2, g_2, y_2, sigma_2, clean_2, truth_2, value_2 = problem(flat, mu_flat, Sigma_flat)
with award(1, "The denoiser is wrong for a covariance of full rank: "
              "which means and covariances belong to x_0, which to x_t?"):
    assert relative_error(student.denoise(x, *given), clean) < 1e-6
with award(1, "The denoiser is wrong for data on a subspace: does it invert their covariance?"):
    assert relative_error(student.denoise(x_2, *given_2), clean_2) < 1e-6
with award(2, "For data on a subspace the look-ahead term has the wrong direction: "
              "a gradient taken through the denoiser, with its sign."):
    term = np.asarray(student.look_ahead_term(x_2, *given_2, g_2, y_2, sigma_2), dtype=float)
    assert term.shape == x_2.shape, f"the shape is {term.shape}, not {x_2.shape}"
    assert ((unit(term) * unit(truth_2)).sum(1) > 1 - 1e-9).all()
with award(2, "The look-ahead term is wrong for a covariance of full rank: look at beta, and at "
              "the derivative of a square (if the denoiser is wrong, that comes first)."):
    assert relative_error(student.look_ahead_term(x, *given, g, y, sigma), truth) < 1e-6
with award(1, "The look-ahead term is wrong on a subspace, or for targets on the other side "
              "(if the denoiser is wrong, that comes first)."):
    there = student.look_ahead_term(x_2, *given_2, g_2, y_2, sigma_2)
    assert relative_error(there, truth_2) < 1e-6
    other = 2 * value_2 - y_2  # the mirror images of the target, another one at every point
    back = [student.look_ahead_term(x_2[[i]], *given_2, g_2, other[i], sigma_2) for i in range(3)]
    assert relative_error(back, -truth_2[:3, None]) < 1e-6
with award(1, "The naive term is wrong: the error of the prediction, along g itself."):
    beta = rng.uniform(0.5, 3)
    naive = student.naive_term(x_2, *given_2, g_2, y_2, beta)
    predicted = (lambda: value_2,  # or their own: a wrong denoiser has been counted above
                 lambda: np.asarray(student.denoise(x_2, *given_2), dtype=float) @ g_2)
    assert any(relative_error(naive, beta * (y_2 - values())[:, None] * g_2) < 1e-6
               for values in predicted)
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ps5-ratio", "locked": false, "schema_version": 3, "solution": true, "task": false}
def off_ratio(x, B):
    """|part off the span of B| / |part within|: x (n, D), B (D, m) -> (n,)."""
    ### BEGIN SOLUTION
    within = np.linalg.lstsq(B, x.T, rcond=None)[0]
    within = (B @ within).T
    return np.linalg.norm(x - within, axis=1) / np.linalg.norm(within, axis=1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps5-check-ratio", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Quick test: (3, 4) lies 3 along the first axis and 4 off it, whatever the length of the vector
# that spans the axis. 2 points for off_ratio.
x = np.array([[3.0, 4.0], [1.0, 0.0]])
assert np.allclose(off_ratio(x, np.array([[2.0], [0.0]])), [4 / 3, 0])
### BEGIN HIDDEN TESTS
A = np.linalg.qr(rng.standard_normal((7, 3)))[0]
x = rng.standard_normal((40, 7))
with award(1, "The ratio is wrong for an orthonormal basis."):
    assert relative_error(student.off_ratio(x, A), metrics.off_support_ratio(x, A)) < 1e-6
with award(1, "The ratio is wrong for a basis that is not orthonormal: "
              "it belongs to the span, not to the basis."):
    B = A @ (draw_covariance(rng, 3) + np.triu(rng.uniform(0.5, 1, (3, 3)), 1))
    assert relative_error(student.off_ratio(x, B), metrics.off_support_ratio(x, B)) < 1e-6
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps5-text-2", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 2. What a naive push leaves behind (6 points, 20 minutes, code)
#
# The naive term points across the span as well. Does that matter, if the exact score pulls back? Let the clock be
# $\alpha = e^{-t/2}$ and let the data be Gaussian across the span, independent of the rest, with mean 0 and variance
# $\tau^2 < 1$ in each direction ($\tau = 0$: no thickness). We add the push $b(t)\,g$ to the exact score, where $g$ is a unit
# vector orthogonal to the span. In the time $t$ of the *noise*, the mean $m(t)$ of the reverse SDE along $g$ obeys
#
# $$m'(t) = \Bigl(\frac{1}{1 - c\,e^{-t}} - \frac12\Bigr)\,m(t) - b(t), \qquad c = 1 - \tau^2,$$
#
# and it stays bounded as $t \to \infty$, where the reverse process starts. The sampler stops at a time $\epsilon > 0$. In
# chapter 15, $b$ is a constant. Here it may depend on $t$.
#
# Write `left_behind(push, eps, tau2)`: the number $m(\epsilon)$, with a relative error of at most $10^{-4}$. `push(t)` takes
# one number $t > 0$ and returns the number $b(t)$. It is bounded on $[\epsilon, \infty)$, smooth, and never oscillates; it may
# be large near $\epsilon$. `eps` lies between $10^{-3}$ and 1, and `tau2` is $\tau^2$, between 0 and 0.5.
#
# The grader asks for seven such numbers, and gives them 30 seconds together. A call of `push` costs it about half a millisecond:
# a few thousand calls a number are too many, a few hundred are plenty.

# %% nbgrader={"grade": false, "grade_id": "ps5-push", "locked": false, "schema_version": 3, "solution": true, "task": false}
def left_behind(push, eps, tau2):
    """The mean that a push b(t) across the span leaves at time eps: a number."""
    ### BEGIN SOLUTION
    from scipy.integrate import quad

    c = 1 - tau2

    def integrand(u):  # t = eps e^u: fine near eps, and far reaching
        t = eps * np.exp(u)
        return push(t) / (np.exp(t / 2) - c * np.exp(-t / 2)) * t

    total = quad(integrand, 0, np.log(200 / eps), epsabs=0, epsrel=1e-8, limit=200)[0]
    return (np.exp(eps / 2) - c * np.exp(-eps / 2)) * total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps5-check-push", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Twice the push leaves twice as much behind, and an earlier stop leaves more.
once, twice = (left_behind(lambda t: size, 0.1, 0.0) for size in (1.0, 2.0))
assert abs(twice / once - 2) < 1e-3
assert left_behind(lambda t: 1.0, 0.2, 0.0) > once > 0
### BEGIN HIDDEN TESTS
def left(a, b, eps, tau2):
    """What the push a + b exp(-t) leaves behind, in closed form."""
    c, r = 1 - tau2, np.exp(-eps / 2)
    log = np.arctanh(np.sqrt(c) * r) / np.sqrt(c)
    return 2 * (1 / r - c * r) * (a * log + b * (log - r) / c)


def close(value, truth):
    return np.ndim(value) == 0 and abs(float(value) / truth - 1) < 1e-4


b, eps, tau2 = rng.uniform(0.5, 3), rng.uniform(0.05, 0.3), rng.uniform(0.02, 0.3)
soon = eps / 50
with award(1, "Without thickness a constant push leaves something else behind: "
              "look at the signs, and at the end from which you integrate."):
    assert close(student.left_behind(lambda t: b, eps, 0.0), left(b, 0, eps, 0.0))
    backwards = student.left_behind(lambda t: -b, soon, 0.0)
    assert close(backwards, left(-b, 0, soon, 0.0)), "at a small eps"
with award(1, "With thickness a constant push leaves something else behind."):
    assert close(student.left_behind(lambda t: b, eps, tau2), left(b, 0, eps, tau2))
    late = student.left_behind(lambda t: b, soon, tau2)
    assert close(late, left(b, 0, soon, tau2)), "at a small eps"
with award(2, "A push that fades or rises leaves something else behind: "
              "at which times is b needed?"):
    fade = rng.uniform(2, 4)
    fading = student.left_behind(lambda t: b + fade * np.exp(-t), eps, 0.0)
    assert close(fading, left(b, fade, eps, 0.0))
    rising = student.left_behind(lambda t: b - 0.7 * b * np.exp(-t), eps, tau2)
    assert close(rising, left(b, -0.7 * b, eps, tau2))
with award(2, "A push that grows towards the end leaves something else behind: "
              "at which times is b needed, and is the part near the stop resolved?"):
    stop = rng.uniform(0.002, 0.02)
    grown = b * (1 + 2 * np.sinh(stop / 2) * np.arctanh(np.exp(-stop / 2)))
    growing = student.left_behind(lambda t: b / -np.expm1(-t), stop, 0.0)
    assert close(growing, grown)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps5-text-3", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 3. Rounds, with and without a refit (10 points, 25 minutes, code)
#
# With Gaussian data and the exact $\beta$, a run of look-ahead guidance is one draw from the law of $x_0 \sim N(\mu, \Sigma)$
# given $Y = y$, where $Y = g^\top x_0 + \sigma\varepsilon'$. So a round needs no diffusion. As before $\Sigma$ may be singular,
# and nothing needs its inverse.
#
# **(a, 4 points)** Write `guided_draws(mu, Sigma, g, y, sigma, n, rng)`: `n` independent draws from that law, $(n, D)$. All
# randomness comes from the `numpy.random.Generator` that it is given. Draws of a law on a subspace are on the subspace, to
# $10^{-4}$.
#
# **(b, 3 points)** Write `next_mean(z, grad_f, mu, Sigma, sigma, delta, w)`, one round without sampling noise. `z` is the mean
# $\bar z_k$ of the last round, $(D,)$, and `grad_f(x)` gives the gradient of the reward at one point, $(D,) \to (D,)$. The
# round has three steps:
#
# 1. refit: the model's law becomes $N(\bar x, \Sigma)$ with $\bar x = (1 - w)\,\mu + w\,\bar z_k$; its covariance stays
#    ($w = 0$ is Algorithm 1, without a refit);
# 2. aim, with the gradient at $\bar z_k$ and the practical rule: $g_k = \nabla f(\bar z_k)$ and
#    $y_k = \delta + g_k^\top \bar z_k$;
# 3. guide the refitted law towards $y_k$.
#
# It returns the mean of the guided law, $(D,)$. It does not change `z`.
#
# **(c, 3 points)** Where do the rounds rest? Chapter 17 says: at a regularised optimum with
# $\lambda = (1 - w)\,\sigma^2/\delta$. Write `regularised_optimum(Q, b, mu, Sigma, lam)` for the reward
# $f(x) = b^\top x - \frac12 x^\top Q\,x$, where $Q$ is $(D, D)$, symmetric and positive definite: the point $x$ of $\mu$ +
# range of $\Sigma$, $(D,)$, that maximises
#
# $$f(x) - \frac\lambda2\,|x - \mu|^2_{\Sigma^{-1}}$$
#
# (with the pseudo-inverse if $\Sigma$ is singular), for `lam` $= \lambda > 0$. It exists for every $\lambda$, also where no
# rounds would reach it.

# %% nbgrader={"grade": false, "grade_id": "ps5-draws", "locked": false, "schema_version": 3, "solution": true, "task": false}
def guided_draws(mu, Sigma, g, y, sigma, n, rng):
    """n draws of x_0 ~ N(mu, Sigma) given g^T x_0 + sigma eps = y: (n, D)."""
    ### BEGIN SOLUTION
    values, vectors = np.linalg.eigh(Sigma)
    x = mu + rng.standard_normal((n, len(mu))) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    miss = y - x @ g - sigma * rng.standard_normal(n)  # (x, y) is drawn, and moved to the asked y
    return x + miss[:, None] * (Sigma @ g) / (sigma**2 + g @ Sigma @ g)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps5-check-draws", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Quick tests of (a). With a small sigma the draws have nearly the value that is asked for, and the
# same generator gives the same draws.
plain = np.zeros(2), np.eye(2), np.array([1.0, 0.0]), 2.0, 0.01, 100
x, again = (guided_draws(*plain, np.random.default_rng(1)) for _ in range(2))
assert x.shape == (100, 2) and np.abs(x[:, 0] - 2).max() < 0.1
assert np.array_equal(x, again)
### BEGIN HIDDEN TESTS
n = 20_000


def posterior(mu, Sigma, g, sigma):
    """A target two deviations away, with the mean and covariance given it."""
    spread = sigma**2 + g @ Sigma @ g
    y = g @ mu + 2 * np.sqrt(spread)
    pull = Sigma @ g
    return y, mu + (y - g @ mu) / spread * pull, Sigma - np.outer(pull, pull) / spread


def errors(x, m, C):
    """The largest errors of mean and covariance, in standard errors, where C is made I."""
    x = np.asarray(x, dtype=float)
    assert x.shape == (n, len(m)), f"the shape is {x.shape}, not {(n, len(m))}"
    assert np.isfinite(x).all(), "there are values that are not finite"
    white = np.linalg.solve(np.linalg.cholesky(C), (x - m).T)  # (D, n)
    sizes = np.sqrt((1 + np.eye(len(m))) / n)  # of the entries of a sample covariance
    spread = np.clip(white.std(1), 1, 15)  # a mean may be right where the spread is not
    of_mean = np.abs(white.mean(1) / spread).max() * np.sqrt(n)
    return of_mean, np.abs((np.cov(white) - np.eye(len(m))) / sizes).max()


def fresh(seed=None):
    return np.random.default_rng(rng.integers(2**32) if seed is None else seed)


law, mu, Sigma = draw_full(rng)
g, sigma = unit(rng.standard_normal(4)) * rng.uniform(1, 2), rng.uniform(0.2, 0.5)
y, m, C = posterior(mu, Sigma, g, sigma)
with award(1, "The mean of the draws is not that of the law given y."):
    assert errors(student.guided_draws(mu, Sigma, g, y, sigma, n, fresh()), m, C)[0] < 6
with award(1, "The covariance of the draws is not that of the law given y: "
              "what does knowing y change, and is a root missing?"):
    assert errors(student.guided_draws(mu, Sigma, g, y, sigma, n, fresh()), m, C)[1] < 6
flat, mu_flat, Sigma_flat, A = draw_flat(rng)
g_flat = unit(rng.standard_normal(6)) * 2
y_flat, m_flat, C_flat = posterior(mu_flat, Sigma_flat, g_flat, sigma)
with award(1, "For data on a subspace the draws have another law, or they leave the subspace."):
    there = student.guided_draws(mu_flat, Sigma_flat, g_flat, y_flat, sigma, n, fresh())
    assert np.shape(there) == (n, 6), f"the shape is {np.shape(there)}, not {(n, 6)}"
    offset = there - mu_flat
    assert max(errors(offset @ A, (m_flat - mu_flat) @ A, A.T @ C_flat @ A)) < 6
    assert np.abs(offset - offset @ A @ A.T).max() < 1e-4, "they leave it"
with award(1, "The draws have to come from the generator that is given, and from nothing else, "
              "and have the right mean."):
    one, other = rng.choice(10**6, 2, replace=False)
    first, again, second = (np.asarray(student.guided_draws(mu, Sigma, g, y, sigma, n, fresh(seed)))
                            for seed in (one, one, other))
    assert np.array_equal(first, again), "the same generator gave two results"
    assert not np.isclose(first[:50], second[:50], rtol=1e-9, atol=0).any(), (
        "two generators gave the same result")
    assert errors(first, m, C)[0] < 6, "they have another mean"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ps5-rounds", "locked": false, "schema_version": 3, "solution": true, "task": false}
def next_mean(z, grad_f, mu, Sigma, sigma, delta, w):
    """The mean after one round that starts from the mean z: (D,) -> (D,)."""
    ### BEGIN SOLUTION
    g = grad_f(z)
    centre = (1 - w) * mu + w * z
    miss = delta + g @ z - g @ centre
    return centre + miss / (sigma**2 + g @ Sigma @ g) * (Sigma @ g)
    ### END SOLUTION


def regularised_optimum(Q, b, mu, Sigma, lam):
    """The maximiser of b^T x - x^T Q x / 2 - (lam / 2) |x - mu|^2, norm of Sigma^-1: (D,)."""
    ### BEGIN SOLUTION
    return mu + np.linalg.solve(lam * np.eye(len(mu)) + Sigma @ Q, Sigma @ (b - Q @ mu))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps5-check-rounds", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Quick tests of (b) and (c), on a line with mean 0 and variance 1: a linear reward of slope 1 from
# two starts, the reward 2 x - x^2 / 2, and the optimum of the reward x - x^2 / 2.
one, zero = np.array([1.0]), np.array([0.0])
assert np.allclose(next_mean(zero, lambda x: one, zero, np.eye(1), 1.0, 0.5, 0.0), 0.25)
assert np.allclose(next_mean(one, lambda x: one, zero, np.eye(1), 1.0, 0.5, 1.0), 1.25)
assert np.allclose(next_mean(one, lambda x: 2 - x, zero, np.eye(1), 1.0, 0.5, 0.0), 0.75)
assert np.allclose(regularised_optimum(np.eye(1), one, zero, np.eye(1), 1.0), 0.5)
### BEGIN HIDDEN TESTS
def true_round(z, grad_f, mu, Sigma, sigma, delta, w):
    """The mean given y in the refitted law, by the joint covariance of x and g^T x."""
    g = grad_f(z)
    both = np.vstack([np.eye(len(g)), g])  # (x, g^T x)
    joint = both @ Sigma @ both.T
    surprise = delta + (1 - w) * g @ (z - mu)
    return mu + w * (z - mu) + joint[:-1, -1] * surprise / (joint[-1, -1] + sigma**2)


def draw_reward(D):
    """Q and b of a quadratic reward, with its gradient; every direction is curved."""
    Q, b = draw_covariance(rng, D), rng.uniform(-2, 2, D)
    return Q, b, lambda x: b - Q @ x


def optimum(Q, b, mu, A, C, lam):
    """The regularised optimum in coordinates v of the subspace, x = mu + A v."""
    return mu + A @ np.linalg.solve(lam * np.linalg.inv(C) + A.T @ Q @ A, A.T @ (b - Q @ mu))


law, mu, Sigma = draw_full(rng)
Q, b, gradient = draw_reward(4)
z, w = mu + rng.uniform(0.5, 1.5, 4), rng.uniform(0.2, 0.4)
sigma, delta = rng.uniform(0.3, 0.8, 2)
given = z, gradient, mu, Sigma, sigma, delta
with award(1, "Without a refit (w = 0) a round ends elsewhere: "
              "where does it start, where is the gradient taken, and from what does the aim count?"):
    assert relative_error(student.next_mean(*given, 0.0), true_round(*given, 0.0)) < 1e-6
with award(1, "With a refit (0 < w < 1) a round ends elsewhere: how much of the old data stays?"):
    assert relative_error(student.next_mean(*given, w), true_round(*given, w)) < 1e-6
flat, mu_flat, Sigma_flat, A = draw_flat(rng)
top = mu_flat + 5 * A @ unit(rng.standard_normal(2)) + 8 * unit(rng.standard_normal(6))


def pull(x):  # of the reward -|x - top|
    return (top - x) / np.linalg.norm(top - x)


with award(1, "On a subspace, with w = 1, eight rounds in a row end elsewhere."):
    mine = theirs = mu_flat
    for _ in range(8):
        mine = true_round(mine, pull, mu_flat, Sigma_flat, 0.3, 0.4, 1.0)
        theirs = student.next_mean(theirs, pull, mu_flat, Sigma_flat, 0.3, 0.4, 1.0)
    assert relative_error(theirs - mu_flat, mine - mu_flat) < 1e-6
with award(1, "The regularised optimum is wrong for a covariance of full rank and a strong leash."):
    lam = rng.uniform(5, 8)
    found = student.regularised_optimum(Q, b, mu, Sigma, lam)
    truth = optimum(Q, b, mu, np.eye(4), Sigma, lam)
    assert relative_error(found - mu, truth - mu) < 1e-6
with award(1, "The regularised optimum is wrong for a weak leash: "
              "it is there even if no rounds settle at it."):
    lam = rng.uniform(0.02, 0.05)
    found = student.regularised_optimum(Q, b, mu, Sigma, lam)
    truth = optimum(Q, b, mu, np.eye(4), Sigma, lam)
    assert relative_error(found - mu, truth - mu) < 1e-6
with award(1, "The regularised optimum is wrong for data on a subspace: "
              "it has to lie in mu plus the range of Sigma."):
    Q, b, _ = draw_reward(6)
    lam, C = rng.uniform(0.03, 0.08), A.T @ Sigma_flat @ A
    found = student.regularised_optimum(Q, b, mu_flat, Sigma_flat, lam)
    assert relative_error(found - mu_flat, optimum(Q, b, mu_flat, A, C, lam) - mu_flat) < 1e-6
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps5-text-4", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 4. Before you run it (6 points, 15 minutes, prediction)
#
# The reward is $f(x) = 10 - (\theta^\top x - 3)^2$, the data have mean 0, and $\sigma = 0.1$. Rounds of Algorithm 1 follow the
# gradient at the mean, without sampling noise and without a refit. Then only $s_k = \theta^\top \bar z_k$ matters, and of
# $\Sigma$ only $\rho = \theta^\top\Sigma\,\theta$. The rounds start at $s_0 = 0$.
#
# Below are three settings $(\rho, \delta)$. To each belong two rules: the *practical* rule with the increment $\delta$, and the
# *theorem's* rule $y_k = \eta\,(\sigma^2 + g_k^\top\Sigma\,g_k) + g_k^\top\mu$ with the same fixed point, that is with
# $\eta = 1/\lambda = \delta/\sigma^2$. In one setting the rounds of both rules settle (converge), in one only those of the
# practical rule, and in one neither.
#
# Do not run anything yet. Say which is which: 0, 1 or 2 each. Then compute, for the three settings in order, the fixed point
# $s^*$ of the rounds and the multiplier of the *practical* rule there, the derivative of the map $s_k \mapsto s_{k+1}$, each to
# three digits. The rest of the points are for the reason.

# %% tags=["instance"] nbgrader={"grade": false, "grade_id": "ps5-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
# The variance of the data along theta and the increment, a number a setting.
rho, delta = draw_settings(rng)

# %% tags=["private"]
def practical_round(s, rho, delta):
    """One round of the practical rule at sigma = 0.1; s may be complex."""
    slope = 2 * (3 - s)
    y = delta + slope * s  # of g^T x with g = slope theta
    return slope * rho * y / (0.1**2 + slope**2 * rho)


def rest(rho, delta):
    """The fixed point of the practical rule and its multiplier, by root search and complex step."""
    s = brentq(lambda s: practical_round(s, rho, delta) - s, 1e-9, 3 - 1e-9, xtol=1e-13)
    return s, practical_round(s + 1e-30j, rho, delta).imag / 1e-30


def settings_truth(rho, delta):
    """(both, only practical, neither), fixed points, multipliers."""
    points, multipliers = np.array([rest(*pair) for pair in zip(rho, delta)]).T
    theorem = -2 * rho * delta / 0.1**2
    easy, settles = abs(theorem) < 1, abs(multipliers) < 1
    kinds = [np.flatnonzero(found) for found in (easy & settles, settles & ~easy, ~settles)]
    return kinds, points, multipliers


def draw_settings(rng):
    """Three settings, one of each kind, in any order; none is near a border, and all were run."""
    while True:
        rho = (np.array([0.02, 0.06, 0.18]) * rng.uniform(0.8, 1.25, 3)).round(3)
        factor = rng.uniform([0.12, 0.75, 5], [0.38, 2.0, 12])[rng.permutation(3)]  # rho / lambda
        delta = (factor * 0.1**2 / rho).round(3)
        kinds, points, multipliers = settings_truth(rho, delta)
        borders = abs(2 * rho * delta / 0.1**2 - 1).min() < 0.2 or abs(multipliers + 1).min() < 0.4
        if [len(kind) for kind in kinds] != [1, 1, 1] or borders:
            continue
        moves = []
        for pair in zip(rho, delta):
            s = 0.0
            for _ in range(8_000):
                s = practical_round(s, *pair)
            moves.append(abs(practical_round(s, *pair) - s))
        if max(np.delete(moves, kinds[2])) < 1e-6 and moves[kinds[2][0]] > 0.1:
            return rho, delta


# %% nbgrader={"grade": false, "grade_id": "ps5-prediction", "locked": false, "schema_version": 3, "solution": true, "task": false}
both = ...  # the setting in which both rules settle: 0, 1 or 2
only_practical = ...  # the one in which only the practical rule does
neither = ...  # the one in which neither does
points = ...  # three fixed points s*
multipliers = ...  # three multipliers of the practical rule
### BEGIN SOLUTION
lam = 0.1**2 / delta
points = 6 / (2 + lam / rho)
v = 4 * rho * (3 - points) ** 2
multipliers = (v - 2 * rho * delta) / (v + 0.1**2)
contracts, settles = 2 * rho < lam, np.abs(multipliers) < 1
both, only_practical = int(contracts.argmax()), int((settles & ~contracts).argmax())
neither = int((~settles).argmax())
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ps5-check-prediction", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points: 1 for which is which, 1 for the fixed points, 2 for the multipliers.
### BEGIN HIDDEN TESTS
kinds, fixed, slopes = settings_truth(public["rho"], public["delta"])
with award(1, "They are not these settings: "
              "the two rules have the same fixed point, and different derivatives there."):
    named = [student.value(name) for name in ("both", "only_practical", "neither")]
    assert [int(number) for number in named] == [int(kind[0]) for kind in kinds]
with award(1, "The fixed points differ: which regularisation is hidden in the increment?"):
    found = np.asarray(student.value("points"), dtype=float)
    assert found.shape == (3,) and (abs(found / fixed - 1) < 6e-3).all()
with award(2, "The multipliers differ: the derivative of one practical round, at its fixed point."):
    found = np.asarray(student.value("multipliers"), dtype=float)
    assert found.shape == (3,) and (abs(found - slopes) < 6e-3 * np.maximum(abs(slopes), 1)).all()
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps5-reason", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# Why do the rounds of the practical rule settle in a setting where those of the theorem's rule do not, and what ends this when
# $\delta$ grows? Two or three sentences.
#
# ### BEGIN SOLUTION
# The theorem's rule has the multiplier $-L/\lambda$ with $L = 2\rho$. That of the practical rule is an average of $1$ and of
# $-L/\lambda$, with the weights $v = g^\top\Sigma g$ and $\sigma^2$. It stays above $-1$ exactly as long as
# $v > \rho\delta - \sigma^2/2$, that is while the gradient at the fixed point is large enough. A larger
# $\delta$ moves the fixed point towards the maximum, where $v$ goes to zero, and at the same time makes
# $L/\lambda$ larger: the average falls below $-1$.
#
# **Mark scheme.**
#
# - 1 point: the practical multiplier is an average of 1 and that of the theorem's rule (or: its effective step is divided by
#   $\sigma^2 + v$, which is large where the gradient is).
# - 1 point: with $\delta$ the fixed point comes closer to the maximum, where the gradient and with it $v$ vanishes, so the
#   protection does. (That $L/\lambda$ grows is not enough alone.)
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps5-proof", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# ## Problem 5. The reward off the span does not matter (5 points, 15 minutes, proof)
#
# The data lie on the span of $A$, $x_0 = Au$ with any law of $u$, and $P = AA^\top$. Two differentiable rewards $f$ and
# $\tilde f$ on $\mathbb R^D$ agree on the span: $f(x) = \tilde f(x)$ whenever $x = Px$. Elsewhere they are as different as you
# like. Run Algorithm 1 on each, with the look-ahead term, the exact score, $\beta = 1/(2\operatorname{Var}(Y \mid x_t))$, the
# practical rule with the gradient of each sample, and the same noise. Take it for granted that samples drawn with the
# exact score down to $t = 0$, unguided or with look-ahead guidance, lie on the span.
#
# Show that the two runs have the same samples in every round. Then show by an example that the field of the naive term, in the
# same round, can differ.
#
# ### BEGIN SOLUTION
# *The gradients.* Let $z = Pz$ and let $a$ be any vector. The points $z + \tau Pa$ lie on the span, so
# $f(z + \tau Pa) = \tilde f(z + \tau Pa)$ for all numbers $\tau$. Differentiate at $\tau = 0$:
# $a^\top P\,\nabla f(z) = a^\top P\,\nabla\tilde f(z)$. As $a$ is arbitrary, $Pg = P\tilde g$ for $g = \nabla f(z)$ and
# $\tilde g = \nabla\tilde f(z)$.
#
# *The target.* $g^\top z = g^\top Pz = (Pg)^\top z$, and the same holds for $\tilde g$. So $y = \delta + g^\top z$ is the same
# number.
#
# *The field.* $\hat x_0 = A\,E[u \mid x_t]$ is on the span for every $x_t$, so $g^\top\hat x_0 = (Pg)^\top\hat x_0$ is the same
# function of $x_t$ for both, and so is its gradient. $\beta$ has
# $\operatorname{Var}(Y \mid x_t) = \sigma^2 + g^\top\operatorname{Cov}(x_0 \mid x_t)\,g$, with
# $\operatorname{Cov}(x_0 \mid x_t) = A\operatorname{Cov}(u \mid x_t)A^\top = P\operatorname{Cov}(x_0 \mid x_t)P$: it knows only
# $Pg$, too. So $G_{\text{loss}}$ is the same field.
#
# *Induction.* Round 0 is not guided: the same samples, on the span. If the samples of round $k$ agree and are on the span,
# round $k + 1$ runs the same field with the same noise from the same start: its samples agree, and are on the span.
#
# *The naive term.* Take $v$ orthogonal to the span, any $f$, and $\tilde f(x) = f(x) + v^\top x$. They agree on the span, and
# $\tilde g = g + v$. Target and predicted value are the same as before, but $G_{\text{naive}}$ changes by
# $\beta\,(y - g^\top\hat x_0)\,v$ (for the same $\beta$), which is not zero wherever the prediction misses the target.
#
# **Mark scheme.**
#
# - 2 points: on the span, $P\nabla f = P\nabla\tilde f$, with the reason: derivatives *along* the span of functions that agree
#   there. (1 point if it is only claimed.)
# - 1 point: the target and $g^\top\hat x_0$ depend on $g$ through $Pg$ only, since $z$ and $\hat x_0$ lie on the span.
# - 1 point: so do the gradient and $\beta$; the rounds agree by induction, which needs that samples stay on the span.
# - 1 point: an example for the naive term, with the difference of the two fields.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps5-open", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ## Problem 6. Open (3 points, 10 minutes)
#
# You guide a network on photographs by a learned reward, round after round, and the reward goes up. Nobody knows the subspace
# of photographs, and the reward cannot see it. Design a test that tells a reward that was *earned* from one that was *cheated*:
# what you measure, against what, at which rounds and increments, and which outcome would make you stop the run or change your
# mind. Half a page; you need not run it.
#
# ### BEGIN SOLUTION
# Many answers are good. One: keep a second regressor, of another architecture and trained on other data, that guidance never
# sees, and the distance of each sample to its nearest neighbour among the training images, in the features of a third network.
# Run $\delta$ in 0.25, 0.5, 1, 2 for 20 rounds from the same starts, 200 images each, look-ahead and naive. Compare runs at
# equal values of the *hidden* regressor, not at equal rounds, and take held-out photographs that have such rewards by nature as
# the yardstick of the distance. Earned: both regressors rise together, and the distance stays within that of the held-out
# photographs. Cheated: the guided reward rises on, while the hidden one stands still or the distance leaves the range of the
# photographs; there the run stops. If an independent regressor is fooled just as far (chapter 18, the exercise with five
# regressors), it was no yardstick, and people have to look.
#
# **Mark scheme.**
#
# - 1 point: a quantity that the optimiser does not see (another model, a directly computable property, a distance to data,
#   people), and what it is compared with.
# - 1 point: a fair comparison: equal reward or several rounds and increments, everything else held, and a yardstick from real
#   images.
# - 1 point: says beforehand which outcome means cheating, and names a way in which the test itself could be fooled.
# ### END SOLUTION
