# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-title", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 2: confidence, diversity, and steps that are too long
#
# **You will** compute a confidence that does not break far from the data, measure how much entropy guidance takes from a flow,
# find the strength at which a sampler splits a class, say what three runs will do before you run them, and prove that
# guidance leaves most directions of a high-dimensional sample alone when classes are few.
#
# **You need** Part II: the chapters "Confidence", "Diversity" and "Strong guidance". From Part I, the guided score and the
# reverse flow. **Time** 110 minutes. **Points** 40: problems 1 to 3 are code (25), 4 is a prediction (6), 5 a proof (6), 6 is open (3).
#
# Run the first cell, then replace every `raise NotImplementedError()` by your own code, every `...` by a value and every "YOUR ANSWER
# HERE" by your own words. The cell below each problem holds a few quick tests: they catch slips, and passing them is not yet full
# marks. The grader tests the same properties on other laws.
#
# Laws come as plain arrays in this set, so NumPy and SciPy are all you need. The grader does not lend you the package's mixtures nor its
# oracles (`guidance.GaussianMixture`, `guidance.exact`). At home they are a good way to check your own code.
#
# Conventions, as in the chapters: $w = 0$ is no guidance, the field is $s_c + w\,(s_c - s)$, the process is Ornstein-Uhlenbeck with
# $r = \alpha = e^{-t}$, $T = 10$, every run starts from $N(0, I)$ and goes down to $t = 0$. Entropies are in nats.

# %% nbgrader={"grade": false, "grade_id": "ps2-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# %% tags=["private"]
from guidance import GaussianMixture, exact

withheld = ["guidance.mixtures.GaussianMixture", "guidance.uniform.UniformMixture",
            "guidance.flow_map.FlowMap", "guidance.exact.push", "guidance.exact.entropy",
            "guidance.exact.expect", "guidance.exact.log_density"]


def relative_error(value, truth):
    """The largest error over the largest entry; refuses another shape and what is not finite."""
    value, truth = np.asarray(value, dtype=float), np.asarray(truth)
    assert value.shape == truth.shape, f"the shape is {value.shape}, not {truth.shape}"
    assert np.isfinite(value).all(), "there are values that are not finite"
    return np.abs(value - truth).max() / np.abs(truth).max()


def number(value):
    """A finite float from a number or an array that holds just one."""
    value = np.asarray(value, dtype=float)
    assert value.size == 1, f"the answer holds {value.size} numbers, not one"
    assert np.isfinite(value).all(), "the answer is not finite"
    return value.item()


def exact_log_odds(x, means, variances, weights, labels, c):
    """log p(c | x) - log p(not c | x), from the log-densities of two mixtures."""
    sides = []
    for rows in (labels == c, labels != c):
        share = weights[rows].sum()
        covs = variances[rows][:, None]
        law = GaussianMixture(means[rows], weights=weights[rows] / share, covs=covs)
        sides.append(np.log(share) + law.log_prob(x))
    return sides[0] - sides[1]


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-text-1", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 1. How sure is the law? (5 points, 12 minutes, code)
#
# A guided sample is often so far from the other classes that $p(c \mid x)$ rounds to 1, and with large $w$ so far from everything that
# all densities round to 0. The log-odds of the class against *all the rest*,
#
# $$ \ell(x) = \log \frac{p(c \mid x)}{1 - p(c \mid x)}, $$
#
# lose nothing in either case. Write `log_odds(x, means, variances, weights, labels, c)` for the mixture
# $p = \sum_k \pi_k N(\mu_k, v_k I)$. It takes the points `x` (n, d), the centres `means` (K, d), the variances `variances` (K,)
# (not standard deviations), the weights `weights` (K,), and the class of each component in `labels` (K,). A class may own
# several components. It returns $\ell$ as an array (n,).
#
# It has to be right to eight digits (of the largest value asked for), also for `x` hundreds of standard deviations away, and where
# $1 - p(c \mid x)$ is far below the rounding error of 1. A weight may be 0; such a component does not exist, whoever is close to it. The class and the rest each have
# at least one component of positive weight.

# %% nbgrader={"grade": false, "grade_id": "ps2-log-odds", "locked": false, "schema_version": 3, "solution": true, "task": false}
def log_odds(x, means, variances, weights, labels, c):
    """log p(c | x) - log(1 - p(c | x)) at points x (n, d): an array (n,)."""
    ### BEGIN SOLUTION
    from scipy.special import logsumexp

    squares = ((x[:, None] - means) ** 2).sum(2)  # (n, K)
    with np.errstate(divide="ignore"):
        logs = np.log(weights) - 0.5 * (x.shape[1] * np.log(variances) + squares / variances)
    return logsumexp(logs[:, labels == c], axis=1) - logsumexp(logs[:, labels != c], axis=1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-check-log-odds", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Two equal classes at -1 and 1 with variance 1: the log-odds of the right one are 2 x.
line = np.array([[-3.0], [0.0], [0.5], [500.0]])
two = np.array([[-1.0], [1.0]])
found = log_odds(line, two, np.ones(2), np.array([0.5, 0.5]), np.array([0, 1]), 1)
assert found.shape == (4,) and np.allclose(found, 2 * line[:, 0])
# Two equal classes at 0 in the plane, one of variance 1 and one of variance 2: the narrow one is denser in the middle.
plane, both = np.array([[0.0, 0.0], [1.0, -1.0]]), np.zeros((2, 2))
found = log_odds(plane, both, np.array([1.0, 2.0]), np.array([0.5, 0.5]), np.array([0, 1]), 0)
assert np.allclose(found, [np.log(2), np.log(2) - 0.5])
### BEGIN HIDDEN TESTS
labels, c = rng.permutation([0, 0, 1, 1, 2, 2]), int(rng.integers(3))
means, variances = rng.uniform(-2, 2, (6, 3)), rng.uniform(0.3, 1.5, 6)
law = (means, variances, rng.dirichlet(np.full(6, 5.0)), labels, c)
x = 1.5 * rng.standard_normal((60, 3))
with award(2, "At ordinary points the log-odds are wrong: look at the normalising factors of "
              "unequal variances, at the weights, and at classes of several components."):
    assert relative_error(student.log_odds(x, *law), exact_log_odds(x, *law)) < 1e-8

while True:  # far out on all sides of four centres of one variance: both signs occur
    means, variances = rng.uniform(-2, 2, (4, 2)), np.full(4, rng.uniform(0.4, 0.8))
    law = (means, variances, rng.dirichlet(np.full(4, 5.0)), np.array([0, 1, 0, 1]), 1)
    turns = rng.uniform(0, 2 * np.pi, 40)
    x = 400 * np.stack([np.cos(turns), np.sin(turns)], 1)
    truth = exact_log_odds(x, *law)
    if truth.max() > 50 and truth.min() < -50:
        break
with award(1, "Hundreds of standard deviations from all centres the answer breaks: stay with "
              "logarithms, and form neither p(c | x) nor 1 - p(c | x)."):
    assert relative_error(student.log_odds(x, *law), truth) < 1e-8

direction = rng.standard_normal(2)
direction /= np.linalg.norm(direction)
means = np.multiply.outer([0.0, rng.uniform(14, 20), -rng.uniform(14, 20)], direction)
variances, labels = np.full(3, rng.uniform(0.7, 1.3)), np.array([1, 0, 2])
law = (means, variances, rng.dirichlet(np.full(3, 5.0)), labels, 1)
x = 0.5 * rng.standard_normal((20, 2))
with award(1, "Where the class is nearly certain the answer breaks: stay with logarithms, and "
              "form neither p(c | x) nor 1 - p(c | x)."):
    assert relative_error(student.log_odds(x, *law), exact_log_odds(x, *law)) < 1e-8

# A place of weight 0 about 60 deviations away, where the class is about as likely as a rival.
means = np.multiply.outer([0.0, rng.uniform(2, 3), -rng.uniform(2, 3)], direction)
ghost = 0.5 * means[1] + 60 * np.array([-direction[1], direction[0]])
weights, v = rng.dirichlet(np.full(3, 5.0)), rng.uniform(0.7, 1.0)
x = ghost + 0.5 * rng.standard_normal((20, 2))
truth = exact_log_odds(x, means, np.full(3, v), weights, labels, 1)
with award(1, "A component of weight 0 does not exist, even for points that lie on it."):
    found = student.log_odds(x, np.vstack([means, ghost]), np.full(4, v), np.append(weights, 0.0),
                             np.append(labels, 0), 1)
    assert relative_error(found, truth) < 1e-8
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-text-2", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 2. What the squeeze takes (12 points, 33 minutes, code)
#
# Let $p = \sum_k \pi_k N(\mu_k, \Sigma)$ with one covariance, and guide to one component $c$. The chapter on diversity shows that the
# guided flow loses entropy at the rate, per unit of the clock $r$,
#
# $$ w\,r\,E\,\mathrm{tr}\bigl(\Sigma_t^{-1}\,\mathrm{Cov}_{q}(\mu)\,\Sigma_t^{-1}\bigr), \qquad \Sigma_t = r^2\Sigma + (1 - r^2) I, $$
#
# where $q_k(x)$ is the probability of component $k$ given the noisy point $x$ at level $r$, whose law is
# $\sum_k \pi_k N(r\mu_k, \Sigma_t)$, and $\mathrm{Cov}_q(\mu)$ is the covariance matrix of the centre $\mu_k$ when $k$ is drawn from $q(x)$.
#
# **a)** (5 points) Write `squeeze(x, r, means, cov, weights, w)`: the expression under the mean, $w\,r\,\mathrm{tr}(\dots)$, at each
# point. It takes `x` (n, d), a number `r` in (0, 1), `means` (K, d), `cov` (d, d), positive `weights` (K,) and a number `w`, and returns
# an array (n,). The largest error may be $10^{-6}$ of the largest value asked for, also where some points are hundreds of standard
# deviations from every centre.

# %% nbgrader={"grade": false, "grade_id": "ps2-squeeze", "locked": false, "schema_version": 3, "solution": true, "task": false}
def squeeze(x, r, means, cov, weights, w):
    """w r tr(Sigma_t^-1 Cov_q(mu) Sigma_t^-1) at points x (n, d) of level r: an array (n,)."""
    ### BEGIN SOLUTION
    inverse = np.linalg.inv(r**2 * cov + (1 - r**2) * np.eye(len(cov)))
    gap = x[:, None] - r * means  # (n, K, d)
    logs = np.log(weights) - 0.5 * ((gap @ inverse) * gap).sum(2)
    q = np.exp(logs - logs.max(1, keepdims=True))
    q /= q.sum(1, keepdims=True)
    b = means @ inverse  # the centres, in the metric of the formula
    return w * r * (q @ (b**2).sum(1) - ((q @ b) ** 2).sum(1))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-check-squeeze", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Two equal classes at -1 and 1 with variance v: at level r the covariance of the centre is 1 - tanh(r x / s)^2.
line = np.array([[-1.0], [0.0], [2.0]])
for v, s in ((1.0, 1.0), (2.0, 1.25)):  # s = r^2 v + 1 - r^2
    found = squeeze(line, 0.5, np.array([[-1.0], [1.0]]), v * np.eye(1), np.array([0.5, 0.5]), 3.0)
    known = 1.5 * (1 - np.tanh(0.5 * line[:, 0] / s) ** 2) / s**2
    assert found.shape == (3,) and np.allclose(found, known)
### BEGIN HIDDEN TESTS
def squeezes(x, *rest):
    return relative_error(student.squeeze(x, *rest), exact_squeeze(x, *rest))


x, r, w = rng.standard_normal((40, 2)), rng.uniform(0.4, 0.9), rng.uniform(1.5, 5.0)
means, weights = rng.uniform(-2, 2, (4, 2)), rng.dirichlet(np.full(4, 5.0))
with award(1, "With covariance I the squeeze is wrong: w, r, and the covariance (not the second "
              "moment) of the centres under q."):
    assert squeezes(x, r, means, np.eye(2), weights, w) < 1e-6
with award(1, "On a line with a variance other than 1 the squeeze is wrong: which covariance "
              "belongs to noise level r, and how often does it occur?"):
    cov = np.array([[rng.uniform(0.2, 0.5)]])
    assert squeezes(x[:, :1], r, means[:, :1], cov, weights, w) < 1e-6
cov = np.diag(rng.uniform(0.5, 2.0, 2)) + rng.uniform(0.2, 0.4) * np.array([[0, 1], [1, 0]])
with award(2, "With a common covariance that is not a multiple of I the squeeze is wrong."):
    assert squeezes(x, r, means, cov, weights, w) < 1e-6

# Two of three centres are equally near, on the side away from the third, at 200 to 400 deviations.
turn = rng.uniform(0, 2 * np.pi)
spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
middle = spin @ [rng.uniform(0.5, 1.0), rng.uniform(-1, 1)]
corners = middle + np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, -rng.uniform(1.0, 2.0)]]) @ spin.T
x = r * middle + np.linspace(200, 400, 9)[:, None] * spin[:, 1]
with award(1, "Far from all centres, where two of them are equally likely, the squeeze is wrong:"
              " the densities are zero there, their ratio is not."):
    assert squeezes(x, r, corners, np.eye(2), rng.dirichlet(np.full(3, 5.0)), w) < 1e-6
### END HIDDEN TESTS

# %% tags=["private"]
def exact_squeeze(x, r, means, cov, weights, w):
    """Minus the divergence of the guidance term w (s_c - s) / r, from the Hessians of the package.

    The covariances are equal, so the class does not matter.
    """
    covs = np.tile(cov, (len(means), 1, 1))
    law = GaussianMixture(means, weights=weights, covs=covs).noised(r, np.sqrt(1 - r**2))
    return -w * (law.given(0).score_divergence(x) - law.score_divergence(x)) / r


def draw_line(rng):
    """Three classes on a line, their variance, the class to guide to; three strengths that change
    the entropy by at least 0.05; and the entropies, from the slope of the flow map."""
    while True:
        means = rng.permutation([-1.0, 0.0, 1.0]) + rng.uniform(-0.15, 0.15, 3)
        v, c = rng.uniform(0.65, 0.85), int(rng.integers(3))
        weights = rng.dirichlet(np.full(3, 8.0))
        strengths = [rng.uniform(1.0, 3.0), -1.0, rng.uniform(6.0, 10.0)]
        law = GaussianMixture(means[:, None], weights=weights, covs=v)
        guided = [exact.FlowMap(law, c, w, T=10.0).entropy() for w in strengths]
        if np.abs(guided - 0.5 * np.log(2 * np.pi * np.e * v)).min() > 0.05:
            return (means, v, weights, c), strengths, guided


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-text-2b", "locked": true, "schema_version": 3, "solution": false, "task": false}
# **b)** (7 points) On a line, with $\Sigma = v$, the unguided flow ends with $H_0 = \frac12 \log\bigl(2\pi e\,v / (v r_0^2 + 1 - r_0^2)\bigr)$,
# $r_0 = e^{-10}$, and with $m(r, x) = \sum_k q_k \mu_k$ and $s_r = r^2 v + 1 - r^2$ the guided flow in the clock $r$ is
#
# $$ \frac{\mathrm{d}x}{\mathrm{d}r} = \frac{r\,(v - 1)\,x + \mu_c + w\,(\mu_c - m(r, x))}{s_r}, \qquad x(r_0) = \xi \sim N(0, 1). $$
#
# Write `guided_entropy(means, v, weights, c, w)`: the entropy $H_w$ of the output $x(1)$, a number, within $10^{-4}$ nats. Here `means`
# and `weights` are (K,), `v` is a number, `c` the index of the guided component, and `w` any number from $-1$ to 10. How you get there is
# up to you; the identity needs the mean of the squeeze along the guided paths, from $r_0$ to 1. Average over the starts
# by a quadrature, not by chance: random starts are not exact enough. Take nodes, and tighten the tolerances of your solver, until the answer
# stays; at $w = -1$ it takes the most nodes. A call should take less than 2 seconds. The grader has three centres between $-1.2$ and 1.2, at least 0.7 apart,
# and variances between 0.6 and 0.9.

# %% nbgrader={"grade": false, "grade_id": "ps2-guided-entropy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def guided_entropy(means, v, weights, c, w):
    """The entropy, in nats, of the guided flow's output on a line, from N(0, 1) at T = 10."""
    ### BEGIN SOLUTION
    from scipy.integrate import solve_ivp

    r0 = np.exp(-10.0)
    node = np.linspace(-7, 7, 161)  # the trapezoidal rule: all ends in zeros
    share = np.exp(-0.5 * node**2)
    share /= share.sum()

    def rate(r, state):
        x, s = state[:-1], r**2 * v + 1 - r**2
        logs = np.log(weights) - 0.5 * (x[:, None] - r * means) ** 2 / s
        q = np.exp(logs - logs.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        m = q @ means
        lost = w * r * share @ (q @ means**2 - m**2) / s**2
        return np.append((r * (v - 1) * x + means[c] + w * (means[c] - m)) / s, -lost)

    plain = 0.5 * np.log(2 * np.pi * np.e * v / (v * r0**2 + 1 - r0**2))
    way = solve_ivp(rate, (r0, 1.0), np.append(node, plain), rtol=1e-7, atol=1e-9)
    return way.y[-1, -1]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-check-entropy", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
# Quick tests. A class alone loses nothing; a class with a rival loses something, and at w = -1 it gains.
alone = guided_entropy(np.array([0.7]), 0.5, np.array([1.0]), 0, 3.0)
assert abs(alone - 0.5 * np.log(np.pi * np.e)) < 1e-4
pair = np.array([-1.0, 1.0]), 1.0, np.array([0.5, 0.5]), 1
assert abs(guided_entropy(*pair, -1.0) - 1.75577) < 1e-4
assert abs(guided_entropy(*pair, 2.0) - 0.96955) < 1e-4
### BEGIN HIDDEN TESTS
law, strengths, truth = draw_line(rng)
with award(3, "The entropy of the guided flow is wrong: is the mean taken along the guided "
              "paths, from the noise to the data, and is every factor there?"):
    assert abs(number(student.guided_entropy(*law, strengths[0])) - truth[0]) < 1e-4
with award(2, "At w = -1 the flow samples the whole mixture, and the entropy has to be that of "
              "the mixture: are there enough starts?"):
    assert abs(number(student.guided_entropy(*law, strengths[1])) - truth[1]) < 1e-4
with award(2, "At a large strength the entropy is wrong: the squeeze is short and early there, "
              "and the steps have to see it."):
    assert abs(number(student.guided_entropy(*law, strengths[2])) - truth[2]) < 1e-4
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-text-3", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 3. One step, and the strength that splits (8 points, 20 minutes, code)
#
# Now unit components on a line, $p = \sum_k \pi_k N(\mu_k, 1)$, that mirror each other: for every centre there is one at the opposite
# place with the same weight. The class to guide to is the single component at 0. The two samplers take Euler steps of length $d$ in $t$, with
# $r = e^{-t}$ from the start of the step and $s_w$ the guided score there,
#
# $$ \text{DDIM:}\quad x \leftarrow x + d\,(x + s_w), \qquad \text{DDPM:}\quad x \leftarrow x + d\,(x + 2 s_w) + \sqrt{2d}\,z, \quad z \sim N(0, 1). $$
#
# By symmetry both take $x = 0$ to 0, apart from the noise. The **multiplier** is the derivative of the step in $x$ at $x = 0$, without the noise.
#
# **a)** (4 points) Write `multiplier(r, w, d, means, weights, sampler)` with `sampler` either `"ddim"` or `"ddpm"`. It takes numbers `w` and
# `d` and an array `r` (m,), and returns an array (m,), right to four digits. `means` and `weights` are (K,), in any order, for any
# number of mirrored centres and any weights: the chapter's formula for three equal ones is a special case.

# %% nbgrader={"grade": false, "grade_id": "ps2-multiplier", "locked": false, "schema_version": 3, "solution": true, "task": false}
def multiplier(r, w, d, means, weights, sampler):
    """The slope at x = 0 of one Euler step from signal levels r (m,): an array (m,)."""
    ### BEGIN SOLUTION
    q = weights * np.exp(-0.5 * np.multiply.outer(r**2, means**2))  # (m, K), at x = 0
    variance = q @ means**2 / q.sum(1)  # the mean of the centre is 0 there
    if sampler == "ddim":
        return 1 - d * w * r**2 * variance
    return (1 - d) - 2 * d * w * r**2 * variance
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-check-multiplier", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Without guidance one step of DDIM is a shift, and one of DDPM shrinks by 1 - d.
r, three, third = np.array([0.2, 0.7, 1.0]), np.array([-2.0, 0.0, 2.0]), np.full(3, 1 / 3)
assert np.allclose(multiplier(r, 0.0, 0.1, three, third, "ddim"), 1)
assert np.allclose(multiplier(r, 0.0, 0.1, three, third, "ddpm"), 0.9)
# At this level and strength one step of DDIM resets a class to its centre.
for sampler, known in (("ddim", -0.0002), ("ddpm", -1.1004)):
    assert abs(multiplier(np.array([0.8555]), 10.8, 0.1, three, third, sampler)[0] - known) < 1e-4
### BEGIN HIDDEN TESTS
means, weights = draw_mirrored(rng)
while True:  # multipliers of both signs
    r, w, d = np.sort(rng.uniform(0.3, 1.0, 12)), rng.uniform(15.0, 30.0), rng.uniform(0.1, 0.2)
    if exact_multiplier(r, w, d, means, weights, 1).min() < -0.2:
        break


def multipliers(sampler, scores):
    found = student.multiplier(r, w, d, means, weights, sampler)
    return relative_error(found, exact_multiplier(r, w, d, means, weights, scores))


with award(2, "The multiplier of DDIM is wrong: what is the derivative in x of the posterior "
              "mean of the centre at x = 0?"):
    assert multipliers("ddim", 1) < 1e-4
with award(2, "The multiplier of DDPM is wrong: the score counts twice in its drift, and x once."):
    assert multipliers("ddpm", 2) < 1e-4
### END HIDDEN TESTS

# %% tags=["private"]
def draw_mirrored(rng):
    """Centres -b, -a, 0, a, b in some order, and weights that mirror each other."""
    a, pair, outer = rng.uniform(1.4, 2.2), rng.uniform(0.15, 0.3), rng.uniform(0.05, 0.12)
    b, order = a + rng.uniform(0.8, 1.5), rng.permutation(5)
    weights = np.array([outer, pair, 1 - 2 * outer - 2 * pair, pair, outer])
    return np.array([-b, -a, 0.0, a, b])[order], weights[order]


def exact_multiplier(r, w, d, means, weights, scores):
    """1 + d (1 + scores div s_w(0)), by the package: scores is 1 for DDIM and 2 for DDPM."""
    law, centre, found = GaussianMixture(means[:, None], weights=weights), np.zeros((1, 1)), []
    label = int(np.argmin(np.abs(means)))
    for level in r:
        noised = law.noised(level, np.sqrt(max(1 - level**2, 0.0)))
        inside = noised.given(label).score_divergence(centre)[0]
        everywhere = noised.score_divergence(centre)[0]
        found.append(1 + d * (1 + scores * (inside + w * (inside - everywhere))))
    return np.array(found)


def levels(N):
    """Signal at the start of each of N equal steps from T = 10 to 0."""
    return np.exp(-np.linspace(10.0, 0.0, N + 1)[:-1])


def torn_from(N, means, weights):
    """The smallest w at which the running product of |multiplier| exceeds 1, and up to which
    multiple of it it stays there."""
    slope = exact_multiplier(levels(N), 1.0, 10.0 / N, means, weights, 1) - 1  # M = 1 + w slope

    def torn(w):
        return np.cumsum(np.log(np.abs(1 + np.multiply.outer(w, slope)) + 1e-300), -1).max(-1) > 0

    w = 2 / np.abs(slope).max() * np.exp(np.arange(0, 4, 5e-4))
    first = int(np.argmax(torn(w)))
    assert first > 0
    until = first + int(np.argmin(torn(w[first:first + 400])))
    low, high = w[first - 1], w[first]
    for _ in range(30):
        half = 0.5 * (low + high)
        low, high = (low, half) if torn(half) else (half, high)
    return high, np.inf if until == first else w[until] / w[first]


def draw_far(rng):
    """Three centres so far apart that growth ends before the run does: P_k, not P_N, exceeds 1."""
    a, outer = rng.uniform(3.6, 4.4), rng.uniform(0.2, 0.35)
    order = rng.permutation(3)
    return np.array([-a, 0.0, a])[order], np.array([outer, 1 - 2 * outer, outer])[order]


def draw_torn(rng, draw=draw_mirrored):
    """A mirrored law and a number of steps where a scan by half a percent meets the first tear."""
    while True:
        (means, weights), N = draw(rng), int(rng.integers(60, 150))
        w, lasts = torn_from(N, means, weights)
        if lasts > 1.03:
            return N, means, weights, w


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-text-3b", "locked": true, "schema_version": 3, "solution": false, "task": false}
# **b)** (4 points) A run of $N$ equal steps, $d = 10 / N$, starts its steps at $r_j = e^{-(10 - j d)}$, $j = 0, \dots, N - 1$. A tiny start has grown
# by $P_k = \prod_{j < k} |M(r_j)|$ after $k$ steps of DDIM. As in the chapter's prediction we say that the class splits at the smallest $w > 0$ for which $P_k > 1$
# for *some* $k$ from 1 to $N$. Write `split_strength(N, means, weights)`: this $w$, a number, within half a percent, in less than 2 seconds.
#
# $P_k$ does not rise steadily with $w$: whenever a multiplier passes through 0, it dips. So scan upwards in steps of half a percent or
# less, then bisect. (In the grader's laws the first stretch of strengths that split the class is at least three percent long.) Where may the scan begin?

# %% nbgrader={"grade": false, "grade_id": "ps2-split-strength", "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_strength(N, means, weights):
    """The smallest w at which N Euler steps of DDIM make a tiny start outgrow its first size."""
    ### BEGIN SOLUTION
    d = 10 / N
    r = np.exp(-(10 - d * np.arange(N)))
    slope = 1 - multiplier(r, 1.0, d, means, weights, "ddim")  # a step multiplies by 1 - w slope

    def torn(w):
        return np.cumsum(np.log(np.abs(1 - w * slope) + 1e-300)).max() > 0

    high = 2 / slope.max()  # below this no multiplier exceeds 1 in size
    while not torn(high):
        high *= 1.002
    low = high / 1.002
    while high > 1.0001 * low:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if torn(middle) else (middle, high)
    return high
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-check-split", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Quick test. The chapter's case of three equal centres at -2, 0, 2 and 100 steps.
assert abs(split_strength(100, np.array([-2.0, 0.0, 2.0]), np.full(3, 1 / 3)) / 71.23 - 1) < 5e-3
### BEGIN HIDDEN TESTS
N, means, weights, truth = draw_torn(rng)
with award(2, "The strength at which the class splits is wrong: which steps belong to P_k, at "
              "which end of a step is r read, and is it the smallest such w?"):
    assert abs(number(student.split_strength(N, means, weights)) / truth - 1) < 5e-3
N, means, weights, truth = draw_torn(rng, draw_far)
with award(2, "For far centres it is wrong: P_k counts at every k, not only at the end; and is it "
              "the smallest such w?"):
    assert abs(number(student.split_strength(N, means, weights)) / truth - 1) < 5e-3
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-text-4", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 4. Before you run it (6 points, 15 minutes, prediction)
#
# Three unit components of equal weight at $-a$, 0 and $a$, guided to the middle one. Below are three runs of Euler DDIM from $T = 10$ to 0: their numbers of
# equal steps and their strengths. Do not run anything yet. For each run write one of three words into `behaviour`:
#
# - `"shrinks"`: every multiplier lies in $(0, 1]$;
# - `"zig-zags"`: some multiplier is negative, but $P_k$ exceeds 1 at no $k$;
# - `"splits"`: $P_k$ exceeds 1 at some $k$.
#
# Then compute $\log_{10} P_N$ for each run, the size of a tiny start at the end in powers of ten, and put the three numbers into `sizes`, to two decimals. The
# rest of the points are for the reason.

# %% tags=["instance"] nbgrader={"grade": false, "grade_id": "ps2-runs", "locked": true, "schema_version": 3, "solution": false, "task": false}
# The outer centres lie at -a and a. Run i takes steps[i] equal steps at strength strengths[i].
a, steps, strengths = draw_runs(rng)

# %% tags=["private"]
def run_sizes(a, steps, strengths):
    """For each run the multipliers, and log10 of P_1, ..., P_N."""
    means, weights, runs = np.array([-a, 0.0, a]), np.full(3, 1 / 3), []
    for N, w in zip(steps, strengths):
        M = exact_multiplier(levels(int(N)), float(w), 10.0 / int(N), means, weights, 1)
        runs.append((M, np.cumsum(np.log10(np.abs(M)))))
    return runs


def behaviours(runs):
    return ["splits" if (P > 0).any() else "zig-zags" if (M < 0).any() else "shrinks"
            for M, P in runs]


def draw_runs(rng):
    """One run of each kind, in any order: the largest w does not split, and the steps alone tell
    nothing."""
    while True:
        a = round(float(rng.uniform(1.9, 2.3)), 2)
        few, many = rng.integers(30, 46), rng.integers(450, 551)
        steps = np.array([rng.choice([few, many]), rng.integers(300, 401), rng.integers(50, 81)])
        product = np.array([rng.uniform(0.5, 0.9), rng.uniform(3.5, 4.5), rng.uniform(10.5, 13.0)])
        strengths = (product * steps / 10).round(1)
        runs, order = run_sizes(a, steps, strengths), rng.permutation(3)
        clear = all(abs(P[-1]) > 0.3 and np.abs(M).min() > 1e-3 for M, P in runs)
        kinds = behaviours(runs) == ["shrinks", "zig-zags", "splits"]
        if clear and kinds and strengths[1] > 1.1 * strengths[2]:
            return a, steps[order], strengths[order]


# %% nbgrader={"grade": false, "grade_id": "ps2-prediction", "locked": false, "schema_version": 3, "solution": true, "task": false}
behaviour = ...  # three words, such as ["splits", "splits", "shrinks"]
sizes = ...  # three numbers, log10 of P_N
### BEGIN SOLUTION
behaviour, sizes = [], []
for N, w in zip(steps, strengths):
    r = np.exp(-np.linspace(10, 0, N + 1)[:-1])
    e = np.exp(-0.5 * (r * a) ** 2)
    M = 1 - 10 / N * w * r**2 * 2 * a**2 * e / (1 + 2 * e)
    P = np.cumsum(np.log10(np.abs(M)))
    sizes.append(P[-1])
    behaviour.append("splits" if P.max() > 0 else "zig-zags" if M.min() < 0 else "shrinks")
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ps2-check-prediction", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points: 1 for the run that splits, 1 for all three words, 2 for the sizes.
### BEGIN HIDDEN TESTS
runs = run_sizes(public["a"], public["steps"], public["strengths"])
words = behaviours(runs)


def answered():
    said = [str(word).strip().lower() for word in student.value("behaviour")]
    assert len(said) == 3, f"there are {len(said)} words, not three"
    return said


with award(1, "Another choice of runs splits: strength and number of steps count only together."):
    assert [word == "splits" for word in answered()] == [word == "splits" for word in words]
with award(1, "Not all three words are right: compare d w with the borders of the chapter."):
    assert answered() == words
with award(2, "The sizes differ from the logarithms (to base ten) of the product of all N "
              "multipliers."):
    found = np.asarray(student.value("sizes"), dtype=float)
    assert found.shape == (3,) and np.abs(found - [P[-1] for M, P in runs]).max() < 0.01
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps2-reason", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# What decides whether a run splits: its strength, its number of steps, or something else? And why is one multiplier of size above 1 not enough for it? Three sentences.
#
# ### BEGIN SOLUTION
# In a multiplier the strength occurs only as $d\,w = 10\,w / N$, so a large $w$ with many steps can be milder than a smaller one with few. Multipliers above 1 in size occur only where $r^2V(r)$
# is near its peak; before that stretch the path has passed many steps with $|M| < 1$ and has shrunk by powers of ten. The class splits only if the growth makes up
# for the shrinking, so not at $d\,w = 2.16$ but at about three times as much.
#
# **Mark scheme.**
#
# - 1 point: only the product $d\,w$ counts (or $w / N$).
# - 1 point: a multiplier above 1 is not enough: the product over all steps so far counts, and early steps have shrunk the path.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps2-proof", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# ## Problem 5. What guidance leaves alone (6 points, 20 minutes, proof)
#
# Let $p = \sum_y \pi_y N(\mu_y, I)$ in $d$ dimensions, guided to the component $c$, $w > 0$. Let $U$ be the space spanned by the arrows $v_y = \mu_c - \mu_y$, $m$ its
# dimension, and $\Pi$ the orthogonal projection on it. You may use that the guided flow in the clock $r$ is $\mathrm{d}x/\mathrm{d}r = \mu_c + w \sum_{y \ne c} q_y v_y$.
#
# 1. Show that $x_g - x_u \in U$ for every start, where $x_g$ and $x_u$ are the outputs of the flow at $w$ and at 0.
# 2. Show that $q_y(r, x)$ depends on $x$ only through $\Pi x$. Conclude that $\Pi x_g$ is a function of $\Pi\xi$ alone, and that it is the output of a guided flow for a mixture in $m$ dimensions. Which one?
# 3. Conclude that the entropy $H_0 - H_w$ lost in $d$ dimensions is that lost by the mixture in $m$ dimensions. A law of digits in 64 dimensions knows three kinds of digit, each
# one Gaussian $N(\mu_y, I)$: how many directions at most can guidance narrow?
#
# ### BEGIN SOLUTION
# 1. At $w = 0$ the flow is $\mathrm{d}x/\mathrm{d}r = \mu_c$, so both runs integrate to $x_g - x_u = w\int_{r_0}^1 \sum_{y \ne c} q_y v_y\,\mathrm{d}r$ along the guided path. At each $r$ the integrand is a
# combination of the arrows, and a subspace is closed under integrals.
#
# 2. $q_y \propto \pi_y \exp(-\frac12 |x - r\mu_y|^2)$, so
# $q_y / q_c = (\pi_y / \pi_c) \exp\bigl(-r\langle x, v_y\rangle + \frac12 r^2(|\mu_c|^2 - |\mu_y|^2)\bigr)$. As $v_y \in U$, $\langle x, v_y\rangle = \langle \Pi x, v_y\rangle$. These ratios fix all $q_y$, as they sum
# to one. Apply $\Pi$ to the flow: $\mathrm{d}(\Pi x)/\mathrm{d}r = \Pi\mu_c + w\sum q_y(r, \Pi x)\, v_y$ is an equation for $\Pi x$ alone with start $\Pi\xi$. It is the guided flow of $\sum_y \pi_y N(\Pi\mu_y, I)$ in $U$: its arrows are $\Pi v_y = v_y$. Its
# posterior is the same $q_y$, because $\mu_y = \Pi\mu_y + (I - \Pi)\mu_c$ for all $y$: all centres have the same part outside $U$, so the factor $\exp(-\frac12 |(I - \Pi)(x - r\mu_c)|^2)$ is
# common to all components and drops out.
#
# 3. The other part obeys $\mathrm{d}((I - \Pi)x)/\mathrm{d}r = (I - \Pi)\mu_c$: a shift of $(I - \Pi)\xi$, whatever $w$ is. $\Pi\xi$ and $(I - \Pi)\xi$ are independent for $\xi \sim N(0, I)$, and each part of the output
# is a function of its own part of the start. So the two parts of the output are independent, $H_w = H(\Pi x_g) + H((I - \Pi)x_g)$, and the second term does not depend on $w$. Three classes
# have two arrows: at most two directions of 64.
#
# **Mark scheme.**
#
# - 1 point: the displacement is an integral of sums of arrows (part 1).
# - 1 point: the ratio of two posteriors depends on $x$ only through $\langle x, v_y\rangle$.
# - 1 point: the projected flow is closed, and is that of $\sum_y \pi_y N(\Pi\mu_y, I)$, with the reason why its posterior is the same (all centres agree outside $U$, or a common factor drops out).
# - 1 point: the part outside $U$ is shifted, in the same way for every $w$.
# - 1 point: independence of the two parts, and so entropies that add. (No point if independence is not mentioned.)
# - 1 point: two directions for three classes.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps2-open", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ## Problem 6. Open (3 points, 10 minutes)
#
# You sample images with a trained network, 30 steps, and a strength $w$ that users may set. There is no exact law to ask. Someone shows you ugly samples at large $w$, and a classifier that reads
# 1.000 on all of them. Is it the *step* that is too long, or is this what guidance at this $w$ *does*? Design a test: what you run, what you measure, how you decide, and which outcome would prove
# you wrong. Half a page; you need not run it.
#
# ### BEGIN SOLUTION
# Many answers are good. One: the same 200 starts and the same $w$ with 30, 60, 120 and 240 steps. Measure the distance between outputs of the same start at $N$ and at $2N$ steps, the zig-zag
# share (steps that turn back on the one before), and the distance to the nearest training images of the class. If it is the step, the first two fall as $N$ doubles and the images improve; then more steps, or a grid that is finer where
# guidance is strong, cure it. If outputs have settled by 60 steps and are still far from the data, it is guidance itself, and only a smaller $w$ helps. I should be wrong about "the step" if samples at 240 steps
# are as far from the data as at 30. Both can be true at once: then the distance falls, and levels off above that at small $w$. The classifier's confidence is not used, as runs thrown outwards score 1.000 as well.
#
# **Mark scheme.**
#
# - 1 point: separates the two by changing the step with $w$ and the starts held fixed (or an equal argument).
# - 1 point: a measure that is not the confidence of the class, computable without the exact law.
# - 1 point: a rule of decision stated beforehand, with an outcome that refutes it.
# ### END SOLUTION
