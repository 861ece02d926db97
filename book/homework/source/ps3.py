# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-title", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 3: the tilt, the edge, the error
#
# **You will** put the tilted law on a grid and measure by how much the guided flow misses it, draw from it in two ways, read off
# how close guidance comes to the edge of a class, prove what weights are worth, and say which of three networks fails first.
#
# **You need** Part III: the chapters "Not the tilt", "To the edge" and "Score error and the choice of w"; from Part I the last
# chapter, "Guidance". **Time** 110 minutes. **Points** 40.
#
# Run the first cell, then replace every `raise NotImplementedError()` by your own code and every "YOUR ANSWER HERE" by your own
# words. The cell below each problem holds a few quick tests: they catch slips, and passing them is not yet full marks. The grader
# tests the same properties on other laws. It lends you the mixtures, `cfg`, `sample`, NumPy and SciPy, and gives each problem
# 30 seconds. It does not lend you `tilt.Tilted`, `tilt.corrected_sample`, `tilt.effective_size`, `exact.FlowMap`,
# `exact.FokkerPlanck` or `exact.push`.
#
# As everywhere, $w = 0$ is no guidance, and the **tilted law** is $\pi(x) = \frac1Z\, p(x \mid c)\, p(c \mid x)^w$. All flows are
# the guided probability-flow ODE of OU, started from $N(0, 1)$ at $T = 10$ and run down to $t = 0$.

# %% nbgrader={"grade": false, "grade_id": "ps3-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

from guidance import OU, GaussianMixture, UniformMixture, cfg, sample

process = OU()  # alpha(t) = exp(-t), sigma(t)^2 = 1 - exp(-2 t)

# %% tags=["private"]
from scipy.special import logsumexp, ndtr

from guidance import OU, GaussianMixture, UniformMixture
from guidance.exact import FlowMap
from guidance.tilt import Tilted

withheld = ["guidance.tilt.Tilted", "guidance.tilt.corrected_sample",
            "guidance.tilt.effective_size", "guidance.exact.FlowMap",
            "guidance.exact.FokkerPlanck", "guidance.exact.push"]
process = OU()


def draw_pair(rng, variances=(0.6, 1.1)):
    """Two Gaussians of one variance on a line, class 1 on the right."""
    centre, gap, weight = rng.uniform(-0.3, 0.3), rng.uniform(1.6, 2.4), rng.uniform(0.35, 0.65)
    return GaussianMixture([[centre + gap / 2], [centre - gap / 2]], [weight, 1 - weight],
                           covs=rng.uniform(*variances), labels=[1, 0])


def draw_hidden(rng):
    """A rare class inside a wide rival: a high power of its posterior underflows everywhere."""
    variances = np.array([[rng.uniform(0.8, 1.2)], [rng.uniform(8, 10)]])
    means = rng.uniform(-0.5, 0.5, (2, 1))
    return GaussianMixture(means, [0.01, 0.99], covs=variances, labels=[1, 0])


def checked(value, shape):
    value = np.asarray(value, dtype=float)
    assert value.shape == shape, f"the shape is {value.shape}, not {shape}"
    assert np.isfinite(value).all(), "there are values that are not finite"
    return value


def error(value, truth):
    """The largest difference."""
    return np.abs(checked(value, np.shape(truth)) - truth).max()


def relative_error(value, truth):
    """The largest difference, each relative to its own true value."""
    return np.abs(checked(value, np.shape(truth)) / truth - 1).max()


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-text-1", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 1. The tilt, and by how much the flow misses it (10 points, 30 minutes, code)
#
# **(a)** Write `tilt_on_grid(p, label, w, grid)` for a Gaussian mixture `p` on a line. `grid` is an increasing array
# `(n,)`; its points need *not* be equally spaced. It covers all the mass that counts, so integrals are sums over the grid, say by
# the trapezoidal rule $\int f \approx \sum_i \frac12 (f_i + f_{i+1})(x_{i+1} - x_i)$. Return two things:
#
# - the log-density $\log\pi$ at the grid points, `(n,)`, with $\pi$ normalised to one;
# - `log_kept` $= \log Z = \log\int p(x \mid c)\, p(c \mid x)^w\, dx$, a number: for $w \ge 0$ the log-probability that a draw of
#   the class survives if it is kept with probability $p(c \mid x)^w$.
#
# Here $w$ may be any number from $-1$ on, and large: $p(c \mid x)^w$ may be below the smallest float at *every* point of
# the grid,
# and the answer must still be right. The mixture offers `p.given(label).log_prob(x)` and `p.log_posterior(x, label)`, both
# `(n, 1) -> (n,)`. The grader's grids are fine; it asks for both answers to $10^{-3}$.
#
# **(b)** Write `gap(p, label, w, u)`: the `u`-quantile of the guided flow's law minus that of the tilt, for an array of levels
# `u` `(m,)` in $[0.1, 0.9]$ and $0 \le w \le 5$, to $5 \cdot 10^{-3}$. `p` is a Gaussian mixture on a line whose components
# have their means in $[-6, 6]$ and standard
# deviations between 0.4 and 2. On a line the flow is an increasing map of its start, so it takes the `u`-quantile of $N(0, 1)$ to
# its own. You may run it with `sample` and `cfg`; `process.times(200, T=10.0, spacing="angle")` is a grid in time that goes
# well with the methods
# "heun" and "rk4".

# %% nbgrader={"grade": false, "grade_id": "ps3-tilt", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tilt_on_grid(p, label, w, grid):
    """The tilted law on a grid (n,): its log-density (n,), and the log-share that is kept."""
    ### BEGIN SOLUTION
    x = grid[:, None]
    logs = p.given(label).log_prob(x) + w * p.log_posterior(x, label)
    peak = logs.max()
    log_kept = peak + np.log(np.trapezoid(np.exp(logs - peak), grid))
    return logs - log_kept, log_kept
    ### END SOLUTION


def gap(p, label, w, u):
    """Quantiles of the guided flow minus quantiles of the tilt, at levels u (m,)."""
    ### BEGIN SOLUTION
    from scipy.special import ndtri

    times = process.times(100, T=10.0, spacing="angle")
    score, starts = cfg(p, label, w, process), ndtri(u)[:, None]
    flow = sample(score, process, starts, times, "rk4", progress=False)[:, 0]
    grid = np.linspace(-20, 20, 20_001)
    density = np.exp(tilt_on_grid(p, label, w, grid)[0])
    levels = np.append(0, np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid)))
    inside = (levels > 1e-9) & (levels < 1 - 1e-9)
    return flow - np.interp(u, levels[inside], grid[inside])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-check-tilt", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Between two equal classes the tilt to the right has its mean on the right; the flow goes further.
pair = GaussianMixture([[-1.0], [1.0]])
grid = np.linspace(-8, 8, 2001)
log_density, log_kept = tilt_on_grid(pair, 1, 1.0, grid)
assert log_density.shape == (2001,) and log_kept < 0
assert np.isclose(tilt_on_grid(pair, 1, 0.0, grid)[1], 0, atol=1e-3), "at w = 0 all are kept"
whole = pair.log_prob(grid[:, None])
assert np.allclose(tilt_on_grid(pair, 1, -1.0, grid)[0], whole, atol=1e-3), "w = -1 is the whole law"
assert np.trapezoid(grid * np.exp(log_density), grid) > 1
assert gap(pair, 1, 1.0, np.array([0.5]))[0] > 0
### BEGIN HIDDEN TESTS
p, w, even = draw_pair(rng), rng.uniform(1.5, 4.0), np.linspace(-9, 9, 4001)
uneven = np.sinh(np.linspace(-3.2, 3.2, 6000))
law = Tilted(p, 1, w)
with award(1, "At w = 0 the tilt is the class, and at w = -1 it is the whole law."):
    for strength, truth in ((0.0, p.given(1)), (-1.0, p)):
        found = student.tilt_on_grid(p, 1, strength, even)[0]
        assert error(found, truth.log_prob(even[:, None])) < 1e-3
with award(2, "The log-density is wrong at a positive w: check the power, its sign, the constant."):
    assert error(student.tilt_on_grid(p, 1, w, even)[0], law.log_prob(even[:, None])) < 1e-3
with award(1, "On points that are not equally spaced each interval has its own width."):
    found = checked(student.tilt_on_grid(p, 1, w, uneven)[0], uneven.shape)
    assert abs(np.trapezoid(np.exp(found), uneven) - 1) < 1e-3, "the integral is not one"
    chance = p.log_posterior(uneven[:, None], 1)  # any power of it: the power is judged above
    other = found - p.given(1).log_prob(uneven[:, None])
    line = np.polyfit(chance, other, 1)
    assert abs(line[0]) > 0.5 and error(np.polyval(line, chance), other) < 1e-3, "it is no tilt"
with award(1, "log_kept is not the logarithm of the mean of p(c | x)^w over the class."):
    assert error(student.tilt_on_grid(p, 1, w, even)[1], law.log_normaliser) < 1e-3
with award(1, "The log-density or log_kept is wrong for a power that underflows everywhere "
              "(if the lines above are right: stay with logarithms)."):
    hidden, power = draw_hidden(rng), rng.uniform(300, 400)
    law = Tilted(hidden, 1, power)
    log_density, log_kept = student.tilt_on_grid(hidden, 1, power, even)
    assert error(log_kept, law.log_normaliser) < 1e-3
    assert error(log_density, law.log_prob(even[:, None])) < 1e-3
u, w = np.sort(rng.uniform(0.1, 0.9, 4)), rng.uniform(1.0, 3.0)
truth = FlowMap(p, 1, w, T=10.0).quantile(u) - Tilted(p, 1, w).quantile(u)
assert truth.min() > 0.1  # on such pairs the flow overshoots: a zero is no answer
found = np.full(4, np.nan)
with award(2, "The gap has the wrong size: check both quantiles, the flow's start and strength."):
    found = student.gap(p, 1, w, u)
    assert error(np.abs(checked(found, (4,))), truth) < 5e-3
with award(1, "The gap is flow minus tilt (if the line above is lost, look there first)."):
    assert error(found, truth) < 5e-3
with award(1, "The gap is wrong for a class between two others, where it need not have one sign, "
              "or for a wide class far out."):
    side = rng.uniform(1.8, 2.4)
    middle = GaussianMixture([[-side], [0.0], [side]], covs=rng.uniform(0.8, 1.2), labels=[0, 1, 2])
    w, u = rng.uniform(0.8, 1.5), np.array([0.1, 0.4, 0.9])
    truth = FlowMap(middle, 1, w, T=10.0).quantile(u) - Tilted(middle, 1, w).quantile(u)
    assert error(student.gap(middle, 1, w, u), truth) < 5e-3, "between two others"
    outer, w = rng.uniform(5, 6) * rng.choice([-1, 1]), rng.uniform(2, 5)
    wide = GaussianMixture([[outer], [0.5 * outer]], covs=np.array([[rng.uniform(3.2, 4)], [1]]))
    truth = FlowMap(wide, 0, w, T=10.0).quantile(u) - Tilted(wide, 0, w).quantile(u)
    assert error(student.gap(wide, 0, w, u), truth) < 5e-3, "wide and far out"
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-text-2", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 2. Two ways to draw from the tilt (8 points, 20 minutes, code)
#
# **(a) Rejection.** Write `draw_tilt(p, label, w, n, rng)`, $w \ge 0$: exactly `n` independent draws of the tilted law,
# `(n, d)`, in any dimension
# $d$. Draw from the class, and keep a draw $x$ with probability $p(c \mid x)^w$; no grid is needed.
# `p.given(label).sample(m, rng)`
# returns points `(m, d)` and their labels; all randomness comes from the `numpy.random.Generator` `rng`. It may be that
# only 1% are kept. Work in blocks: a loop over single draws is slow.
#
# **(b) Weights.** The points `x` `(n, d)` were drawn from some other law, and `log_source` `(n,)` holds its log-density at
# each of them,
# *up to one constant that nobody knows*. Write `weigh(p, label, w, x, log_source)`. It returns two things: weights `(n,)`,
# non-negative and with sum
# one, under which the points stand for the tilted law, that is $v_i \propto \pi(x_i) / \text{source}(x_i)$; and their
# effective size
# $1 / \sum_i v_i^2$, a number. The unknown constant may be thousands in size, positive or negative. Answers to $10^{-6}$ of
# their size.

# %% nbgrader={"grade": false, "grade_id": "ps3-draws", "locked": false, "schema_version": 3, "solution": true, "task": false}
def draw_tilt(p, label, w, n, rng):
    """n draws of the tilted law by rejection, (n, d)."""
    ### BEGIN SOLUTION
    kept, have = [], 0
    while have < n:
        x, _ = p.given(label).sample(5000, rng)
        x = x[np.log(rng.random(len(x))) < w * p.log_posterior(x, label)]
        kept.append(x)
        have += len(x)
    return np.concatenate(kept)[:n]
    ### END SOLUTION


def weigh(p, label, w, x, log_source):
    """Weights (n,) under which draws x (n, d) of another law stand for the tilt; effective size."""
    ### BEGIN SOLUTION
    logs = p.given(label).log_prob(x) + w * p.log_posterior(x, label) - log_source
    weights = np.exp(logs - logs.max())
    weights = weights / weights.sum()
    return weights, 1 / np.sum(weights**2)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-check-draws", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
# Quick tests. The tilt to the right lies to the right of the class; points of equal weight are worth their number.
pair = GaussianMixture([[-1.0], [1.0]])
draws = draw_tilt(pair, 1, 2.0, 1000, np.random.default_rng(1))
assert draws.shape == (1000, 1) and draws.mean() > 1.1
assert len(np.unique(draws)) == 1000, "independent draws do not repeat"
again = draw_tilt(pair, 1, 2.0, 1000, np.random.default_rng(1))
assert np.array_equal(draws, again), "all randomness comes from rng"
x = pair.given(1).sample(5, np.random.default_rng(1))[0]
weights, size = weigh(pair, 1, 0.0, x, pair.given(1).log_prob(x))
assert np.isclose(size, 5)
### BEGIN HIDDEN TESTS


def fresh():
    return np.random.default_rng(rng.integers(2**32))


def far_from(draws, law):
    """Kolmogorov-Smirnov distance of draws on a line; above 3.3 once in a billion."""
    n, level = len(draws), law.cdf(np.sort(draws[:, 0]))
    below = np.arange(n) / n
    return np.sqrt(n) * max(np.abs(level - below).max(), np.abs(level - below - 1 / n).max())


p, w, n = draw_pair(rng), rng.uniform(0.8, 1.4), 40_000
with award(2, "The draws do not have the law of the tilt: draws of what, kept how often?"):
    draws = checked(student.draw_tilt(p, 1, w, n, fresh()), (n, 1))
    assert len(np.unique(draws)) == n, "there are draws that occur more than once"
    assert far_from(draws, Tilted(p, 1, w)) < 3.3
with award(1, "Exactly n draws of the tilt are due also in a plane, and where few are kept."):
    covs = np.array([[1.0, 1.0], [1.0, 4.0]]) * rng.uniform(0.8, 1.2)
    plane = GaussianMixture(rng.uniform(-0.5, 0.5, (2, 2)), [0.15, 0.85], covs=covs, labels=[1, 0])
    law = Tilted(plane, 1, 2.0)
    draws = checked(student.draw_tilt(plane, 1, 2.0, 1000, fresh()), (1000, 2))
    assert len(np.unique(draws, axis=0)) == 1000, "there are draws that occur more than once"
    means, squares = (law.expect(lambda x: np.hstack([x, x**2])**k) for k in (1, 2))
    off = np.hstack([draws, draws**2]).mean(0) - means
    off = np.abs(off) / np.sqrt((squares - means**2) / 1000)
    assert (off < 6).all(), "their means or mean squares are wrong"
with award(1, "The draws have to come from the generator that is given, and from nothing else."):
    generators = map(np.random.default_rng, (5, 5, 6))
    first, again, other = (checked(student.draw_tilt(p, 1, w, 50, g), (50, 1)) for g in generators)
    assert np.array_equal(first, again), "the same generator gave two results"
    assert not (first == other).any(), "two generators gave the same result"


def shares(logs):
    return np.exp(logs - logsumexp(logs))


p = GaussianMixture(rng.uniform(-1.5, 1.5, (3, 2)), rng.dirichlet(np.full(3, 5.0)),
                    covs=rng.uniform(0.4, 1.0, 3))
w = rng.uniform(1, 3)
centre, spread = rng.uniform(-0.5, 0.5, 2), rng.uniform(1.2, 1.8)
x = centre + spread * rng.standard_normal((300, 2))
log_source = -((x - centre)**2).sum(1) / (2 * spread**2) - np.log(2 * np.pi * spread**2)
logs = p.given(2).log_prob(x) + w * p.log_posterior(x, 2) - log_source
truth = shares(logs)
effective = 1 / (truth**2).sum()
with award(2, "The weights are wrong: target over source, the whole of the target, a sum of one."):
    assert error(student.weigh(p, 2, w, x, log_source)[0], truth) < 1e-6 * truth.max()
with award(1, "The effective size is wrong."):
    assert relative_error(student.weigh(p, 2, w, x, log_source)[1], effective) < 1e-6
with award(1, "A constant of thousands in log_source must change nothing: shift, then take exp."):
    for shift in (-3000.0, 3000.0):
        weights, size = student.weigh(p, 2, w, x, log_source + shift)
        assert error(weights, truth) < 1e-6 * truth.max(), "the weights changed"
        assert relative_error(size, effective) < 1e-6, "the effective size changed"
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-text-3", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 3. How close to the edge? (8 points, 20 minutes, code)
#
# The class is uniform on $[a, b]$, its rival uniform on $[-b, -a]$, $0 < a < b$, both with weight one half, and
# we guide to the right. The **missing level** of a noisy point $x$ at time $t$ is the share of the noised class to its right,
# $1 - F_t(x) = P(\alpha_t U + \sigma_t \varepsilon > x)$, with $U$ uniform on $[a, b]$ and $\varepsilon$ standard normal.
# Far out it is tiny, and $1 - F_t$ in floats is then worthless. But with the partial
# mean of a normal tail, $G(z) = E\,(\varepsilon - z)_+ = \phi(z) - z\,\Phi(-z)$, and since
# $\int_{z_2}^{z_1}\Phi(-z)\,dz = G(z_2) - G(z_1)$,
#
# $$ 1 - F_t(x) = \frac{1}{b-a}\int_a^b \Phi\Big({-\frac{x - \alpha_t v}{\sigma_t}}\Big)\,dv = \frac{\sigma_t}{\alpha_t (b - a)}\,\big[G(z_2) - G(z_1)\big],
# \quad z_1 = \frac{x - \alpha_t a}{\sigma_t},\; z_2 = \frac{x - \alpha_t b}{\sigma_t}. $$
#
# **(a)** Write `missing_level(x, t, a, b)` for an array `x` `(n,)` and a number `t` between 0.02 and 2, to $10^{-6}$ of its
# own size wherever it is above $10^{-40}$.
#
# **(b)** Write `edge_distance(xi, w, a, b)`: for starts `xi` `(m,)`, each in $[-2, 2]$, the distance $b - x_0 > 0$ of the
# guided sample $x_0$ from the
# far edge, to 1% *of its own size*, for $0 \le w \le 25$. There it can be below $10^{-6}$, and a sample that is right to 1%
# of itself says nothing. You
# need not go to $t = 0$: at $t = 0.05$ the rival is all but forgotten for the boxes that the grader uses
# ($0.7 \le a$, $b \le 2.5$, $b - a \ge 0.8$), and from there on the path keeps its level. The methods and the grid of Problem 1,
# with `t_min=0.05`, do well here too.

# %% nbgrader={"grade": false, "grade_id": "ps3-edge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def missing_level(x, t, a, b):
    """P(noised class > x) at time t for the class U[a, b], for x (n,)."""
    ### BEGIN SOLUTION
    from scipy.special import ndtr

    def G(z):
        return np.exp(-z**2 / 2) / np.sqrt(2 * np.pi) - z * ndtr(-z)

    alpha, sigma = process.alpha(t), process.sigma(t)
    z1, z2 = (x - alpha * a) / sigma, (x - alpha * b) / sigma
    return sigma / alpha / (b - a) * (G(z2) - G(z1))
    ### END SOLUTION


def edge_distance(xi, w, a, b):
    """The distance b - x_0 of guided samples from the edge of U[a, b], for starts xi (m,)."""
    ### BEGIN SOLUTION
    boxes = UniformMixture([[a], [-b]], [[b], [-a]], labels=[1, 0])
    times = process.times(100, T=10.0, t_min=0.05, spacing="angle")
    x = sample(cfg(boxes, 1, w, process), process, xi[:, None], times, "rk4", progress=False)[:, 0]
    return (b - a) * missing_level(x, 0.05, a, b)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-check-edge", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
# Quick tests. In the middle of the noised class half of it is missing; guidance brings a sample closer to the edge.
assert np.isclose(missing_level(np.array([1.5 * np.exp(-0.3)]), 0.3, 1.0, 2.0)[0], 0.5)
assert np.isclose(missing_level(np.array([1.75 * np.exp(-0.3)]), 0.3, 1.0, 2.5)[0], 0.5)
assert np.isclose(edge_distance(np.zeros(1), 0.0, 1.0, 2.5)[0], 0.75, rtol=0.01), "no guidance"
strong, weak = (edge_distance(np.zeros(1), w, 1.0, 2.0)[0] for w in (3.0, 1.0))
assert 0 < strong < weak < 0.5
### BEGIN HIDDEN TESTS


def share_right(x, t, a, b):
    """The mean of Phi(-(x - alpha v) / sigma) over v in [a, b], by Gauss-Legendre sums."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(a, b, 41)
    v = (edges[:-1, None] + np.diff(edges)[:, None] * (1 + nodes) / 2).ravel()
    part = (np.diff(edges)[:, None] * weights / 2).ravel() / (b - a)
    return ndtr(-(np.asarray(x)[:, None] - process.alpha(t) * v) / process.sigma(t)) @ part


def true_distance(xi, w, a, b, t=0.02):
    boxes = UniformMixture([[a], [-b]], [[b], [-a]], labels=[1, 0])
    return (b - a) * share_right(FlowMap(boxes, 1, w, T=10.0, t_min=t).map(xi), t, a, b)


a = rng.uniform(0.7, 1.1)
b = a + rng.uniform(0.8, 1.3)
t = rng.uniform(0.1, 0.8)
alpha, sigma = process.alpha(t), process.sigma(t)
near = rng.uniform(alpha * a - sigma, alpha * b + sigma, 30)
far = alpha * b + sigma * rng.uniform(8.0, 11.0, 30)
with award(2, "The missing level is wrong in and around the class: check z1, z2, the factor."):
    assert relative_error(student.missing_level(near, t, a, b), share_right(near, t, a, b)) < 1e-6
with award(1, "Far out, where it is tiny, the missing level is wrong or lost its digits."):
    assert relative_error(student.missing_level(far, t, a, b), share_right(far, t, a, b)) < 1e-6
xi = np.sort(rng.uniform(-1.5, 1.5, 5))
with award(1, "Without guidance a quantile of the noise goes to that quantile of the class."):
    assert relative_error(student.edge_distance(xi, 0.0, a, b), true_distance(xi, 0.0, a, b)) < 0.01
with award(2, "The distances are wrong at a moderate strength: check field, start and rival."):
    w = rng.uniform(2, 5)
    assert relative_error(student.edge_distance(xi, w, a, b), true_distance(xi, w, a, b)) < 0.01
with award(2, "At a large strength the distance is wrong or lost its digits."):
    w = rng.uniform(20, 25)
    assert relative_error(student.edge_distance(xi, w, a, b), true_distance(xi, w, a, b)) < 0.01
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-text-4", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 4. Before you run it (6 points, 15 minutes, prediction)
#
# Three networks were trained on the boxes. Far outside, late in the run, both exact scores agree, and the conditional and the
# unconditional score of network $k$ are too weak by the shares `delta_c[k]` and `delta_u[k]`, at all noise levels $\tau$:
# $\hat s_c = (1 - \delta_c)\,s$ and $\hat s_u = (1 - \delta_u)\,s$. A path that is still far outside at $\tau = 0.5$, at
# distance `Y` from the edge,
# then moves by
#
# $$ \frac{dY}{d\log\tau} = \rho_w\,Y, $$
#
# where $\rho_w$ is the share of the pull that is left. The run stops at $\tau$ = `stop`.
#
# Do not compute anything yet. Say by looking at the numbers which network's path is furthest outside at the stop without
# guidance (`worst_plain`),
# and which at the strength `strong` (`worst_guided`). Then compute: `critical`, for each network the strength $w > 0$ at
# which no pull is left,
# `np.inf` where there is none; and `distances`, the three distances at the stop at the strength `strong`; both to three
# digits. The rest of the points are for the reason.

# %% tags=["instance"] nbgrader={"grade": false, "grade_id": "ps3-networks", "locked": true, "schema_version": 3, "solution": false, "task": false}
# The errors of three networks, the guidance strength, the distance at tau = 0.5, and tau at the stop.
delta_c, delta_u, strong, Y, stop = draw_networks(rng)

# %% tags=["private"]
def draw_networks(rng):
    """Three networks in any order: very wrong, alike; little wrong, differently; with more pull."""
    delta_c = rng.uniform([0.3, 0.06, 0.12], [0.4, 0.1, 0.2]).round(3)
    gap = rng.uniform([0.004, 0.05, -0.02], [0.009, 0.06, -0.01]).round(3)
    order = rng.permutation(3)
    return (delta_c[order], (delta_c - gap)[order].round(3), round(rng.uniform(20, 25), 1),
            round(rng.uniform(0.5, 1.5), 2), round(rng.uniform(0.01, 0.05), 3))


def run_networks(delta_c, delta_u, w, Y, stop):
    """The distances at the stop, by many small steps in log tau, and the critical strengths."""
    score_c, score_u = 1 - delta_c, 1 - delta_u  # at a point where both exact scores are 1
    left = score_c + w * (score_c - score_u)
    clock = np.linspace(np.log(0.5), np.log(stop), 2001)
    for step in np.diff(clock):  # right to the third power of its length
        Y = Y * (1 + left * step + (left * step)**2 / 2)
    return Y, np.array([c / (u - c) if u > c else np.inf for c, u in zip(score_c, score_u)])


# %% nbgrader={"grade": false, "grade_id": "ps3-prediction", "locked": false, "schema_version": 3, "solution": true, "task": false}
worst_plain = ...  # 0, 1 or 2
worst_guided = ...  # 0, 1 or 2
critical = ...  # three numbers, np.inf where there is no such strength
distances = ...  # three numbers
### BEGIN SOLUTION
difference = delta_c - delta_u
critical = np.where(difference > 0, (1 - delta_c) / np.abs(difference), np.inf)
distances = Y * (stop / 0.5)**(1 - delta_c - strong * difference)
worst_plain, worst_guided = int(delta_c.argmax()), int(distances.argmax())
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ps3-check-prediction", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points: 1 for both networks, 1 for the critical strengths, 2 for the distances.
### BEGIN HIDDEN TESTS
given = {name: public[name] for name in ("delta_c", "delta_u", "Y", "stop")}
plain, _ = run_networks(w=0.0, **given)
guided, strengths = run_networks(w=public["strong"], **given)
with award(1, "One of the two networks is another: how do both errors act together as w grows?"):
    assert student.value("worst_plain") == plain.argmax(), "without guidance"
    assert student.value("worst_guided") == guided.argmax(), "with guidance"
with award(1, "The critical strengths differ: where is the pull zero, for which sign of w?"):
    found, some = np.asarray(student.value("critical"), dtype=float), np.isfinite(strengths)
    assert found.shape == (3,) and np.array_equal(found == np.inf, ~some), "others are infinite"
    assert relative_error(found[some], strengths[some]) < 6e-3
with award(2, "The distances differ: tau falls from 0.5 to the stop, at the speed of the pull left."):
    assert relative_error(student.value("distances"), guided) < 6e-3
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps3-reason", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# Why is the network that is furthest off under guidance not the one that is furthest off without? And could a test on
# samples at $w = 0$ have found it? Three sentences.
#
# ### BEGIN SOLUTION
# Without guidance the pull left is $1 - \delta_c$, so the network with the weakest conditional score is last to come home.
# Guidance multiplies the
# *difference* of the two errors by $w$: the network whose $(\delta_c - \delta_u)/(1 - \delta_c)$ is largest loses its
# pull first, however small both errors
# are. At $w = 0$ even a path that starts far outside depends on $\delta_c$ only, so such a test prefers the very network
# that fails.
#
# **Mark scheme.**
#
# - 1 point: guidance amplifies the difference $\delta_c - \delta_u$ and not the size of either.
# - 1 point: at $w = 0$ the unconditional score plays no part, so no test there can tell. Accept also: at $w = 0$ no path
#   goes far out, so samples show neither error. Accept that unconditional samples ($w = -1$) would depend on $\delta_u$.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps3-proof", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# ## Problem 5. What weights are worth (5 points, 15 minutes, proof)
#
# Draw $X_1, \dots, X_n$ independently from the class, and give them the weights $p(c \mid X_i)^w$, $w > 0$, divided by
# their sum $S$; so the source in Problem 2(b) is the
# class itself. Let $Z(w) = E[\,p(c \mid X)^w \mid c\,]$: rejection keeps this share of the draws.
#
# (a) Show that the effective size, divided by $n$, tends to $R(w) = Z(w)^2 / Z(2w)$ with probability one as $n \to \infty$.
# (b) Show that $Z(w) \le R(w) \le 1$: by this measure weighting never wastes more than rejection.
# (c) Exactly when is $R(w) = 1$? Exactly when is $R(w) = Z(w)$? What does the second case say about the tilt?
#
# ### BEGIN SOLUTION
# Write $V_i = p(c \mid X_i)^w$; under the class $V > 0$ almost surely, and $V \le 1$. (a) The weights are $V_i / S$, so the
# effective size is
# $(\sum V_i)^2 / \sum V_i^2$. Divided by $n$ it is $(\frac1n\sum V_i)^2 / (\frac1n\sum V_i^2)$, and the law of large
# numbers takes the
# means to $E[V] = Z(w) > 0$ and $E[V^2] = Z(2w) > 0$. (b) As $0 \le V \le 1$, $V^2 \le V$ and $Z(2w) \le Z(w)$, so
# $R \ge Z(w)$. By
# Jensen or Cauchy-Schwarz $E[V]^2 \le E[V^2]$, so $R \le 1$. (c) $R = 1$ if and only if $V$ has variance zero: $p(c \mid x)$ is
# constant on the class (almost everywhere). $R = Z(w)$ if and only if $E[V - V^2] = 0$, so $V = V^2$ almost surely, and as
# $V > 0$, $V = 1$: the class is certain at each of its
# points, as for disjoint supports. Then $Z = R = 1$, and the tilt is the class for every $w$. (In the first case too the
# tilt is the class, but there rejection may waste most draws: $Z = V$ may be small.)
#
# **Mark scheme.**
#
# - 1 point: (a), the sums divided by n and the law of large numbers, for V and for its square.
# - 1 point: the lower bound, from V^2 <= V.
# - 1 point: the upper bound, by Jensen or Cauchy-Schwarz.
# - 1 point: R = 1 exactly if p(c | x) is constant on the class.
# - 1 point: R = Z exactly if p(c | x) = 1 on the class (V = 0 has to be excluded), and then the tilt is the class.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps3-open", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ## Problem 6. Open (3 points, 10 minutes)
#
# A colleague guides a trained network at $w = 10$ and finds 20% of the samples outside the range of the data. There are
# three suspects: the run stops at too much noise,
# its steps are too coarse, or the scores are wrong far from the data. You may run the sampler as often as you like, but you
# have no
# exact score. Design a series of runs that convicts one suspect: what you change in each, what you measure, and which
# outcome clears whom. Say what your
# series cannot tell apart. Half a page; you need not run it.
#
# ### BEGIN SOLUTION
# Many answers are good. One: keep the starts. (1) Take one last step to the denoiser at the same stop: with good scores
# it brings nearly everybody home, so if the share outside falls to nearly zero, it was the stop. Separately lower t_min with
# the step sizes held, and look at the distances, not only at the share: with good scores they shrink at least in
# proportion to $\tau$, the noise level in units of the data. A finer stop alone convicts nobody: where a part of the pull is
# left, $0 < \rho < 1$, it brings samples home too, only more slowly, like $\tau^\rho$. If the finer stop helps and the last
# step does not, suspect the scores. (2) Halve all steps, twice, with stop and starts held, and look at the change of each
# sample, not only of the share:
# if the samples move and the share falls with the step, it was the steps; if they stay, the solver is cleared. (3) Sweep w
# and look, on the points that the paths visit far out, at
# w times the difference of the two scores against the conditional one: a critical strength that neither stop nor steps move
# convicts the scores. A
# last step brings no sample home whose pull is gone. The series cannot tell which of the two scores is wrong, and it cannot see
# an error that both share; with an exact score the
# stop too sends samples outside, more of them as w grows, so a sweep of w alone proves nothing.
#
# **Mark scheme.**
#
# - 1 point: one thing is changed at a time (stop or last step; steps; strength), with the same starts.
# - 1 point: for each suspect an outcome, said beforehand, that clears or convicts it.
# - 1 point: names something that the series cannot tell apart, for instance an error shared by both scores.
# ### END SOLUTION
