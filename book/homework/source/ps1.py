# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-title", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 1: from noise to guidance
#
# **You will** write one step of DDIM and one of DDPM, build a guided score, prove what guidance does to two Gaussians, and
# say what happens before you look.
#
# **You need** Part I, chapters 1 (Noising) to 5 (Guidance). **Time** 100 minutes. **Points** 40.
#
# Run the first cell, then replace every `raise NotImplementedError()` by your own code and every "YOUR ANSWER HERE" by your own words.
# The cell below each problem holds a few quick tests: they catch slips, and passing them is not yet full marks. The grader tests
# the same properties on other mixtures, to five digits. It does not lend you `guidance.sample`, the step functions, `guidance.cfg` or
# `GaussianMixture.guided_score`: write these yourself, from scores.

# %% nbgrader={"grade": false, "grade_id": "ps1-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

from guidance import OU, GaussianMixture

process = OU()  # alpha(t) = exp(-t), sigma(t)^2 = 1 - exp(-2 t)

# %% tags=["private"]
from guidance import OU, GaussianMixture, cfg
from guidance.samplers import sample

withheld = ["guidance.mixtures.GaussianMixture.guided_score", "guidance.samplers.sample", "guidance.samplers.STEPS", "guidance.samplers.ddim_step", "guidance.samplers.ddpm_step", "guidance.guide.cfg",
            "guidance.guide.classifier_guidance"]
process = OU()


def draw_mixture(rng, d=2, K=3):
    """A mixture whose components overlap enough for every term of a formula to count."""
    return GaussianMixture(rng.uniform(-2, 2, (K, d)), weights=rng.dirichlet(np.full(K, 5.0)), covs=rng.uniform(0.3, 1.0, K))


def relative_error(value, truth):
    value = np.asarray(value, dtype=float)
    assert value.shape == truth.shape, f"the shape is {value.shape}, not {truth.shape}"
    assert np.isfinite(value).all(), "there are values that are not finite"
    return np.abs(value - truth).max() / np.abs(truth).max()


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-text-1", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 1. One step of DDIM (9 points, 20 minutes, code)
#
# DDIM reads two things off the score at time $t$: where the point came from, and which noise was added,
#
# $$\hat x_0 = \frac{x + \sigma_t^2\, s(x, t)}{\alpha_t}, \qquad \hat\varepsilon = -\sigma_t\, s(x, t),$$
#
# and puts them together with the weights of an earlier time $s < t$. Write `ddim_step(score, process, x, t, s)`. It returns the
# point at time `s`, of the shape of `x`, whose points may have any number of coordinates; `s` may be 0. `score(x, t)` is a function, and
# `process.alpha(t)`, `process.sigma(t)` are numbers. It asks for the score once.

# %% nbgrader={"grade": false, "grade_id": "ps1-ddim-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ddim_step(score, process, x, t, s):
    """One DDIM step from time t to the earlier time s: x (n, d) -> (n, d)."""
    ### BEGIN SOLUTION
    slope = score(x, t)
    clean = (x + process.sigma(t)**2 * slope) / process.alpha(t)
    noise = -process.sigma(t) * slope
    return process.alpha(s) * clean + process.sigma(s) * noise
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-check-ddim", "locked": true, "points": 9, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Under the score of N(0, I) the noise and the signal keep their proportions.
x = np.array([[1.0, -2.0], [0.5, 3.0]])
assert ddim_step(lambda x, t: -x, process, x, 1.0, 0.4).shape == (2, 2)
### BEGIN HIDDEN TESTS
p = draw_mixture(rng)
x, asked = rng.standard_normal((50, 2)), []


def score(at, t):
    asked.append((np.array(at), float(t)))
    return p.noised(process.alpha(t), process.sigma(t)).score(at)


t, s = rng.uniform(0.8, 1.5), rng.uniform(0.2, 0.6)
truth = sample(score, process, x, np.array([t, s]), "ddim", progress=False)
asked.clear()
with award(4, "A step from t to s is not the DDIM step: look at the signs, and at which time each weight belongs to."):
    assert relative_error(student.ddim_step(score, process, x, t, s), truth) < 1e-5
with award(2, "The score has to be asked once, at the point and the time that the step starts from."):
    assert len(asked) == 1, f"it was asked {len(asked)} times"
    assert abs(asked[0][1] - t) < 1e-6 and relative_error(asked[0][0], x) < 1e-6, "it was asked elsewhere"
with award(2, "A step to s = 0 has to land on the denoiser."):
    slope = p.noised(process.alpha(t), process.sigma(t)).score(x)
    assert relative_error(student.ddim_step(score, process, x, t, 0.0), (x + process.sigma(t)**2 * slope) / process.alpha(t)) < 1e-5
with award(1, "It has to work in any dimension."):
    assert relative_error(student.ddim_step(lambda x, t: -x / 2, process, np.ones((3, 5)), t, s),
                          sample(lambda x, t: -x / 2, process, np.ones((3, 5)), np.array([t, s]), "ddim", progress=False)) < 1e-5
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-text-2", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 2. A guided score (8 points, 15 minutes, code)
#
# Write `guided_score(p, label, w, process)`. It returns a *function* of `(x, t)`: the score of classifier-free guidance at strength
# $w$, in the convention of this course, where $w = 0$ is plain conditional sampling. The mixture knows its laws: `p.given(label)` is
# the class, `p.noised(alpha, sigma)` the law at a noise level, `.score(x)` its score. `w` is any number, also a negative one.

# %% nbgrader={"grade": false, "grade_id": "ps1-guided-score", "locked": false, "schema_version": 3, "solution": true, "task": false}
def guided_score(p, label, w, process):
    """The guided score field of a mixture: returns score(x, t), with x (n, d) -> (n, d)."""
    ### BEGIN SOLUTION
    def score(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        conditional = p.given(label).noised(alpha, sigma).score(x)
        unconditional = p.noised(alpha, sigma).score(x)
        return conditional + w * (conditional - unconditional)

    return score
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-check-guided", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
# Quick test. In the middle between two equal classes, guidance to the right pushes to the right.
pair = GaussianMixture([[-1.0], [1.0]])
assert guided_score(pair, 1, 2.0, process)(np.array([[0.0]]), 0.5)[0, 0] > 0
### BEGIN HIDDEN TESTS
p, x, t = draw_mixture(rng), rng.standard_normal((40, 2)), rng.uniform(0.3, 1.0)
label, w = int(rng.integers(3)), rng.uniform(1.5, 6.0)
alpha, sigma = process.alpha(t), process.sigma(t)
with award(2, "At w = 0 it has to be the score of the class."):
    assert relative_error(student.guided_score(p, label, 0.0, process)(x, t), p.given(label).noised(alpha, sigma).score(x)) < 1e-5
with award(1, "At w = -1 it has to be the score of the whole mixture."):
    assert relative_error(student.guided_score(p, label, -1.0, process)(x, t), p.noised(alpha, sigma).score(x)) < 1e-5
with award(4, "At a positive strength it differs from the guided score: is w = 0 no guidance in your formula, and is the noised law used?"):
    assert relative_error(student.guided_score(p, label, w, process)(x, t), cfg(p, label, w, process)(x, t)) < 1e-5
with award(1, "The field has to hold at every time, not only at one."):
    field = student.guided_score(p, label, w, process)
    assert all(relative_error(field(x, time), cfg(p, label, w, process)(x, time)) < 1e-5 for time in (0.05, 0.7, 3.0))
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-text-3", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 3. One step of DDPM (8 points, 20 minutes, code)
#
# DDPM draws $x_s$ from $q(x_s \mid x_t, x_0)$ with the denoiser $\hat x_0$ of Problem 1 in the place of $x_0$. With $a = \alpha_t / \alpha_s$ and
# $b^2 = \sigma_t^2 - a^2\sigma_s^2$ this is a Gaussian with
#
# $$\text{mean} = \frac{a\,\sigma_s^2\, x_t + b^2 \alpha_s\, \hat x_0}{\sigma_t^2}, \qquad \text{variance} = \frac{\sigma_s^2\, b^2}{\sigma_t^2}.$$
#
# Write `ddpm_step(score, process, x, t, s, rng)`. All noise comes from the `numpy.random.Generator` that it is given.

# %% nbgrader={"grade": false, "grade_id": "ps1-ddpm-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ddpm_step(score, process, x, t, s, rng):
    """One DDPM step from time t to the earlier time s: x (n, d) -> (n, d), noise from rng."""
    ### BEGIN SOLUTION
    a = process.alpha(t) / process.alpha(s)
    variance = process.sigma(t)**2 - a**2 * process.sigma(s)**2
    clean = (x + process.sigma(t)**2 * score(x, t)) / process.alpha(t)
    mean = (a * process.sigma(s)**2 * x + variance * process.alpha(s) * clean) / process.sigma(t)**2
    deviation = process.sigma(s) * np.sqrt(variance) / process.sigma(t)
    return mean + deviation * rng.standard_normal(x.shape)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-check-ddpm", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
# Quick test. The same generator gives the same step.
x = np.zeros((4, 2))
first = ddpm_step(lambda x, t: -x, process, x, 1.0, 0.5, np.random.default_rng(1))
assert np.array_equal(first, ddpm_step(lambda x, t: -x, process, x, 1.0, 0.5, np.random.default_rng(1)))
### BEGIN HIDDEN TESTS
p, t, s, n = draw_mixture(rng), rng.uniform(0.8, 1.5), rng.uniform(0.2, 0.6), 40_000
start = np.tile(rng.standard_normal((1, 2)), (n, 1))
slope = p.noised(process.alpha(t), process.sigma(t)).score(start[:1])[0]


def score(x, t):
    return np.tile(slope, (len(x), 1))


a = process.alpha(t) / process.alpha(s)
b2 = process.sigma(t)**2 - a**2 * process.sigma(s)**2
clean = (start[0] + process.sigma(t)**2 * slope) / process.alpha(t)
mean = (a * process.sigma(s)**2 * start[0] + b2 * process.alpha(s) * clean) / process.sigma(t)**2
deviation = process.sigma(s) * np.sqrt(b2) / process.sigma(t)
with award(3, "The mean of the step is wrong."):
    draws = np.asarray(student.ddpm_step(score, process, start, t, s, np.random.default_rng(rng.integers(2**32))))
    assert draws.shape == (n, 2) and np.abs(draws.mean(0) - mean).max() < 6 * deviation / np.sqrt(n) + 1e-9
with award(3, "The spread of the step is wrong: compare a variance with a standard deviation."):
    draws = np.asarray(student.ddpm_step(score, process, start, t, s, np.random.default_rng(rng.integers(2**32))))
    assert np.abs(draws.std(0) / deviation - 1).max() < 6 / np.sqrt(2 * n)
with award(2, "The noise has to come from the generator that is given, and from nothing else."):
    first, again, other = (np.asarray(student.ddpm_step(score, process, start[:100], t, s, np.random.default_rng(seed))) for seed in (5, 5, 6))
    assert np.array_equal(first, again), "the same generator gave two results"
    assert not np.isclose(first, other).any(), "two generators gave the same result"
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-text-4", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 4. Before you run it (6 points, 15 minutes, prediction)
#
# Two classes on a line, each a Gaussian of variance 1. The next cell holds three such pairs. Look at the *guidance term*
# $w\,(s_1(x) - s(x))$ of class 1 at the point $x$ in the middle between the two means. No noise is added: $s_1$ is the score of class 1 and $s$ that
# of the whole mixture.
#
# Do not compute anything yet. Which way does the term point: `"left"`, `"right"`, or `"depends on the pair"`? With $w = 1$ for all, in which pair (0, 1 or 2)
# is it `largest` in size? Only then compute the three terms at $w = 1$ to three digits, positive to the right, and put them in `terms`.

# %% tags=["instance"] nbgrader={"grade": false, "grade_id": "ps1-pairs", "locked": true, "schema_version": 3, "solution": false, "task": false}
# A row a pair: the mean of class 0, then that of class 1; and the weight of class 1 in each pair.
means, weights = draw_pairs(rng)

# %% tags=["private"]
def draw_pairs(rng):
    """Three pairs with gaps of 1, 2 and 3 or so, class 1 on the right, on the left, or now here, now there; the sizes differ clearly."""
    sides = [np.ones(3), -np.ones(3), rng.permutation([1.0, -1.0, rng.choice([-1.0, 1.0])])][rng.integers(3)]
    while True:
        gaps, weights = rng.permutation([1.0, 2.0, 3.0]) + rng.uniform(-0.2, 0.2, 3).round(2), rng.uniform(0.2, 0.8, 3).round(2)
        first = rng.uniform(-2, 2, 3).round(2)
        sizes = np.sort(gaps * (1 - weights))
        if sizes[2] > 1.1 * sizes[1]:
            return np.stack([first, first + sides * gaps], 1).round(2), weights


def guidance_terms(means, weights):
    """The guidance term at w = 1 in the middle, from the exact scores."""
    terms = []
    for (other, own), weight in zip(means, weights):
        p = GaussianMixture([[other], [own]], weights=[1 - weight, weight])
        middle = np.array([[(other + own) / 2]])
        terms.append((p.given(1).score(middle) - p.score(middle)).item())
    return np.array(terms)


# %% nbgrader={"grade": false, "grade_id": "ps1-prediction", "locked": false, "schema_version": 3, "solution": true, "task": false}
direction = ...  # "left", "right", or "depends on the pair"
largest = ...  # 0, 1 or 2
terms = ...  # three numbers, positive to the right
### BEGIN SOLUTION
terms = (means[:, 1] - means[:, 0]) * (1 - weights)  # p(class 0 | middle) = 1 - weight, as both are equally far
largest = int(np.abs(terms).argmax())
direction = "right" if (terms > 0).all() else "left" if (terms < 0).all() else "depends on the pair"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ps1-check-prediction", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points: 1 for the direction, 1 for the largest, 2 for the terms.
### BEGIN HIDDEN TESTS
truth = guidance_terms(public["means"], public["weights"])
with award(1, "The guidance term is the slope of log p(class | x): on which side does that probability grow?"):
    right = "right" if (truth > 0).all() else "left" if (truth < 0).all() else "depends on the pair"
    assert str(student.value("direction")).strip().lower() == right
with award(1, "Another pair has the largest term: what does the weight of the other class do?"):
    assert int(student.value("largest")) == np.abs(truth).argmax()
with award(2, "The terms differ from the exact ones: the difference of two scores at the middle, with the weights of this pair."):
    assert relative_error(student.value("terms"), truth) < 5e-3
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps1-reason", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# Why is it that pair? Two sentences.
#
# ### BEGIN SOLUTION
# With equal variances the difference of the scores is (gap of the means) x p(other class | x). In the middle both classes are
# equally far, so the probability of the other class is its weight: far apart and rare gives the largest push.
#
# **Mark scheme.**
#
# - 1 point: the term is the gap of the means times the probability of the *other* class at the point.
# - 1 point: in the middle that probability is the weight of the other class, so a rare class is pushed harder.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps1-proof", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# ## Problem 5. Guidance is a score of the posterior (6 points, 20 minutes, proof)
#
# Let $p_t$ be the law at time $t$ and $p_t(\cdot \mid c)$ that of class $c$. Show that the guided field
# $\nabla\log p_t(x \mid c) + w\,(\nabla\log p_t(x \mid c) - \nabla\log p_t(x))$ equals
# $\nabla\log p_t(x \mid c) + w\,\nabla\log p_t(c \mid x)$, and that it is the score of a density proportional to
# $p_t(x \mid c)\,p_t(c \mid x)^w$ whenever that can be normalised. Say in one sentence why this does *not* show that the samples at time 0 have the law
# $\propto p_0(x \mid c)\,p_0(c \mid x)^w$.
#
# ### BEGIN SOLUTION
# By Bayes' rule at time $t$, $\log p_t(c \mid x) = \log p_t(x \mid c) + \log p(c) - \log p_t(x)$. The weight $p(c)$ does not
# depend on $x$, so the gradients give the first claim. The gradient of
# $\log\big(p_t(x \mid c)\,p_t(c \mid x)^w / Z\big)$ is the guided field, as $Z$ is a number. A reverse process
# recovers a law at time 0 if its field is, at every $t$, the score of *that law noised to t*. The tilted laws are tilted at
# each level anew: the one at $t$ is in general not the noised version of the one at 0.
#
# **Mark scheme.**
#
# - 2 points: Bayes' rule at one fixed time, log p(c | x) = log p(x | c) - log p(x) + log p(c), and that p(c) does not depend on x.
# - 2 points: the gradient of log of the product; the constant drops out.
# - 2 points: the tilted laws at different times are not the noised versions of one law, so no reverse process with these scores
# need end in the one at time 0. (1 point for "noising and tilting do not commute" without saying what follows.)
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps1-open", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ## Problem 6. Open (3 points, 10 minutes)
#
# DDIM asks for one score a step, and with many steps all samplers agree. With *few* steps, which would you trust more under strong guidance, one large step
# of DDIM or one of DDPM? Design an experiment with two classes on a line that could decide it: what you measure, against what, at which strengths and steps,
# and which outcome would make you change your mind. Half a page; you need not run it.
#
# ### BEGIN SOLUTION
# Many answers are good. One: the pair at -1 and 1 with variance 1, label 1, w in 0, 2, 8, 32, steps in 4, 8, ..., 512 with equal
# angles, 10,000 points from common starts. Truth is the map of the guided flow, for DDPM the law at 4,096 steps. Measure the Wasserstein distance of the
# samples to it. DDPM is refuted as the safer one if at some w its error at few steps exceeds that of DDIM.
#
# **Mark scheme.**
#
# - 1 point: a measure with a known truth (distance to the exact guided flow, share of the wrong class, ...).
# - 1 point: steps and strengths that vary, everything else held (start, seed, grid).
# - 1 point: says beforehand which outcome would refute the guess.
# ### END SOLUTION
