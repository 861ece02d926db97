# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-title", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 4: on average, and for one sample
#
# **You will** compute the drift of any quantity along a guided run, step the reverse SDE twice with the same noise, read the
# confidence off a run by two scores alone, judge a mean of $1/p$ against the right baseline, and count the samples that guidance
# made worse.
#
# **You need** Part IV, chapters 12 (A martingale), 13 (Better on average, worse for some), and of 14 (Which samples are bad, and can
# guidance adapt?) the first two sections. **Time** 110 minutes. **Points** 40.
#
# Run the first cell, then replace every `raise NotImplementedError()` by your own code and every "YOUR ANSWER HERE" by your own words.
# The cell below each problem holds a few quick tests: they catch slips, and passing them is not yet full marks. The grader tests
# the same properties on other data. It does not lend you `guidance.sample` and its step functions, `guidance.cfg`,
# `guidance.tracker.tracked`, `guidance.exact.evolve` and `improvement`, nor `mean_interval` and `inverse_confidence` of
# `guidance.metrics`.
#
# Everywhere the process is Ornstein-Uhlenbeck, $\alpha_t = e^{-t}$, $\sigma_t^2 = 1 - e^{-2t}$, and a **run** with the score field
# $s(x, t)$ is the reverse SDE, in reverse time $\tau = T - t$,
#
# $$ dY = \bigl[Y + 2\,s(Y, t)\bigr]\,d\tau + \sqrt2\,dB. $$

# %% nbgrader={"grade": false, "grade_id": "ps4-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

from guidance import OU, GaussianMixture

process = OU()  # alpha(t) = exp(-t), sigma(t)^2 = 1 - exp(-2 t)

# %% tags=["private"]
from guidance import OU, GaussianMixture, cfg, tracker
from guidance.samplers import sample

withheld = ["guidance.samplers.sample", "guidance.samplers.STEPS", "guidance.samplers.ddpm_step",
            "guidance.samplers.euler_maruyama_step", "guidance.tracker.tracked",
            "guidance.guide.cfg", "guidance.guide.combine", "guidance.guide.classifier_guidance",
            "guidance.exact.evolve", "guidance.exact.improvement",
            "guidance.metrics.mean_interval", "guidance.metrics.inverse_confidence"]
process = OU()


def draw_mixture(rng, d=2, K=3):
    """A mixture whose components overlap enough for every term of a formula to count."""
    weights, variances = rng.dirichlet(np.full(K, 8.0)), rng.uniform(0.4, 1.0, K)
    return GaussianMixture(rng.uniform(-2, 2, (K, d)), weights, variances[:, None])


def noised(p, t):
    return p.noised(process.alpha(t), process.sigma(t))


def fields(p, label):
    """The scores of the class and of everything: two functions of (x, t)."""
    return lambda x, t: noised(p.given(label), t).score(x), lambda x, t: noised(p, t).score(x)


def draw_run(rng, p, label, n, steps):
    """Starts, an uneven grid of times, and noise for a run."""
    times = np.sort(np.append(rng.uniform(0.3, 1.4, steps - 1), [0.2, 1.5]))[::-1].copy()
    x = noised(p.given(label), times[0]).sample(n, rng)[0]
    return x, times, rng.standard_normal((steps, *x.shape))


def true_path(p, label, w, x, times, noise):
    """The package's path of a guided run, or of a score field given as p."""
    score = p if callable(p) else cfg(p, label, w, process)
    return sample(score, process, x, times, "euler-maruyama", noise=noise, trajectory=True,
                  progress=False)


def true_meter(p, label, w, x, times, noise):
    """The package's meter of the same run."""
    run = tracker.tracked(*fields(p, label), w, process, x, times, noise=noise,
                          method="euler-maruyama", progress=False)
    return run.tracker


def error(value, truth, scale=None):
    """The largest difference, in units of the largest true value or of a scale."""
    value, truth = np.asarray(value, dtype=float), np.asarray(truth, dtype=float)
    assert value.shape == truth.shape, f"the shape is {value.shape}, not {truth.shape}"
    assert np.isfinite(value).all(), "there are values that are not finite"
    return np.abs(value - truth).max() / (np.abs(truth).max() if scale is None else scale)


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-text-1", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 1. What drifts, and what stands still (7 points, 20 minutes, code)
#
# Along a run with score field $s$ the mean of any smooth $f(Y, t)$ changes, per unit of reverse time and given that the run is at
# $x$ at time $t$, at the rate
#
# $$ (\mathcal L f)(x, t) = -\partial_t f + (x + 2\,s(x, t))\cdot\nabla f + \Delta f. $$
#
# Write `drift(f, score, x, t)` that returns this rate at the points `x`, (n, d) for any d, at a time `t` of at least 0.2: an
# array (n,). The arguments `f(x, t)` and `score(x, t)` are functions that take a number `t` and points (m, d) for any m and
# return (m,) and (m, d). You cannot look inside `f`: use central differences, of first order in time and of first and second order
# in each coordinate; a step near $10^{-3}$ serves for both. The functions of the tests vary on lengths of the order of 1, and
# the answer is right if its largest error is below 0.2% of the largest true value at the points asked for. (Where the
# truth is zero, because terms cancel, the error is measured against the largest of these terms.)
#
# When it works, try $f = 1/p_t(c \mid x)$ with the score of the class, with that of the whole mixture, and with a guided one.

# %% nbgrader={"grade": false, "grade_id": "ps4-drift", "locked": false, "schema_version": 3, "solution": true, "task": false}
def drift(f, score, x, t):
    """The rate of change of the mean of f along a run that is at x (n, d) at time t: (n,)."""
    ### BEGIN SOLUTION
    h, here = 1e-3, f(x, t)
    move = x + 2 * score(x, t)
    rate = -(f(x, t + h) - f(x, t - h)) / (2 * h)
    for j in range(x.shape[1]):
        shift = np.zeros(x.shape[1])
        shift[j] = h
        right, left = f(x + shift, t), f(x - shift, t)
        rate = rate + move[:, j] * (right - left) / (2 * h) + (right - 2 * here + left) / h**2
    return rate
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-check-drift", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
# Quick tests. Under the score of N(0, I) a coordinate is pulled to the middle at the rate of its size.
x = np.array([[1.0, -2.0], [0.5, 3.0]])
assert np.allclose(drift(lambda x, t: x[:, 0], lambda x, t: -x, x, 1.0), -x[:, 0], atol=1e-4)
# A bowl that flattens in reverse time: t |x|^2 has the three terms -|x|^2, -2 t |x|^2 and 4 t.
bowl = drift(lambda x, t: t * (x**2).sum(1), lambda x, t: -x, x, 0.5)
assert np.allclose(bowl, 2 - 2 * (x**2).sum(1), rtol=1e-3)
### BEGIN HIDDEN TESTS
p, t, label = draw_mixture(rng), rng.uniform(0.35, 0.7), int(rng.integers(3))
x, w = noised(p.given(label), t).sample(30, rng)[0], rng.uniform(1.0, 3.0)
cond, uncond = fields(p, label)
with award(1, "A function of time alone: the run goes from noise to data, against t."):
    value = student.drift(lambda x, t: np.cos(2 * t) + 0 * x[:, 0], cond, x, t)
    assert error(value, np.full(30, 2 * np.sin(2 * t))) < 2e-3
with award(2, "A linear function: its mean moves as the run does, without the noise."):
    a = rng.uniform(0.5, 1.5, 2)
    assert error(student.drift(lambda x, t: x @ a, cond, x, t), (x + 2 * cond(x, t)) @ a) < 2e-3
with award(2, "At the bottom of a bowl only the noise counts, in every coordinate."):
    for d in (1, 3):
        b, bottom = rng.uniform(0.5, 2.0, d), rng.uniform(-1, 1, (1, d))
        value = student.drift(lambda x, t: (x - bottom)**2 @ b, lambda x, t: np.cos(x), bottom, t)
        assert error(value, np.array([2 * b.sum()])) < 2e-3


def inverse(x, t):
    return 1 / noised(p, t).posterior(x, label)


pull = cond(x, t) - uncond(x, t)
loss = 2 * (pull**2).sum(1) * inverse(x, t)
with award(1, "Along a guided run the inverse confidence does not fall at the theorem's rate."):
    assert error(student.drift(inverse, cfg(p, label, w, process), x, t), -w * loss) < 2e-3
with award(1, "The inverse confidence stands still along the run of its class, and rises along the "
              "unconditional run."):
    assert error(student.drift(inverse, cond, x, t), 0 * loss, scale=loss.max()) < 2e-3
    assert error(student.drift(inverse, uncond, x, t), loss) < 2e-3
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-text-2", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 2. A run and its meter (11 points, 30 minutes, code)
#
# **(a)** (6 points) To ask whether guidance made *this* sample worse, a run needs a twin with the same start and the same noise. So
# the noise is an argument. Write `guided_path(cond, uncond, w, x, times, noise)`, Euler-Maruyama for the reverse SDE with the guided score at
# strength $w$, in the convention of this course ($w = 0$ is plain conditional sampling):
#
# - `cond(x, t)` and `uncond(x, t)` are the two score fields, functions from a time and points (n, d) to (n, d);
# - `x` are the starts, (n, d), and `times`, (steps + 1,), falls; the steps need not be equal;
# - `noise`, (steps, n, d), holds standard normal draws; `noise[k]` belongs to the step from `times[k]` to `times[k + 1]`;
# - a step of length $\Delta$ uses drift and scores where it starts, and noise of variance $2\Delta$ in each coordinate.
#
# It returns the whole path, (steps + 1, n, d), whose first entry is `x`. Rounding is the only error that is tolerated.
#
# **(b)** (5 points) Given nothing but a path and the two fields, how likely is each Euler-Maruyama step of (a) under the *conditional* sampler
# ($w = 0$), compared with the *unconditional* one ($w = -1$)? The log of the ratio of the two Gaussian densities, added up along
# the run, is the meter $L$ of chapter 14. Write `meter(cond, uncond, path, times)`. It returns (steps + 1, n): row $k$
# is the sum over the first $k$ steps, so the first row is zero. It gets neither the noise nor the strength of the run, and needs
# neither: derive the log of the ratio for one step, in which the constants of the densities cancel. (Do not divide densities: they
# underflow.) The path may come from any sampler. A relative error of $10^{-6}$ is tolerated.

# %% nbgrader={"grade": false, "grade_id": "ps4-path", "locked": false, "schema_version": 3, "solution": true, "task": false}
def guided_path(cond, uncond, w, x, times, noise):
    """A guided run of the reverse SDE by Euler-Maruyama with given noise: (steps + 1, n, d)."""
    ### BEGIN SOLUTION
    path = [x]
    for t, s, z in zip(times[:-1], times[1:], noise):
        c = cond(x, t)
        score = c + w * (c - uncond(x, t))
        x = x + (t - s) * (x + 2 * score) + np.sqrt(2 * (t - s)) * z
        path.append(x)
    return np.array(path)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-check-path", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Quick test. The path starts at x, and has one more entry than there are steps. The guided score is -1.5 x here.
x = np.array([[1.0, -2.0], [0.5, 3.0]])
times, noise = np.array([1.0, 0.7, 0.2]), np.stack([np.ones((2, 2)), np.zeros((2, 2))])
path = guided_path(lambda x, t: -x, lambda x, t: -x / 2, 1.0, x, times, noise)
assert path.shape == (3, 2, 2) and np.array_equal(path[0], x)
assert np.allclose(path[1], 0.4 * x + np.sqrt(0.6))
### BEGIN HIDDEN TESTS
p, label = draw_mixture(rng), int(rng.integers(3))
cond, uncond = fields(p, label)
x, times, noise = draw_run(rng, p, label, 40, 12)
with award(2, "With noise and without it, one step does not differ by the noise of that step."):
    for length in (0.1, 0.5):
        one = np.array([1.0, 1.0 - length])
        ends = [np.asarray(student.guided_path(cond, uncond, 1.0, x, one, z), dtype=float)[-1]
                for z in (noise[:1], 0 * noise[:1])]
        assert error(ends[0] - ends[1], np.sqrt(2 * length) * noise[0]) < 1e-8
with award(2, "Without noise and without a pull (two equal fields) the path is not Euler's path."):
    truth = true_path(cond, label, 0.0, x, times, 0 * noise)
    assert error(student.guided_path(cond, cond, 1.0, x, times, 0 * noise), truth) < 1e-8
with award(2, "The guided path differs: is w = 0 no guidance, and has each step its own noise, "
              "its own length and the scores of its start?"):
    for w in (0.0, rng.uniform(1.5, 4.0)):
        truth = true_path(p, label, w, x, times, noise)
        assert error(student.guided_path(cond, uncond, w, x, times, noise), truth) < 1e-8
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ps4-meter", "locked": false, "schema_version": 3, "solution": true, "task": false}
def meter(cond, uncond, path, times):
    """The log-likelihood ratio, conditional over unconditional, after each step: (steps + 1, n)."""
    ### BEGIN SOLUTION
    total = np.zeros(path.shape[:2])
    for k, (t, s) in enumerate(zip(times[:-1], times[1:])):
        x, length, c = path[k], t - s, cond(path[k], t)
        delta = 2 * length * (c - uncond(x, t))
        rest = path[k + 1] - x - length * (x + 2 * c)  # from the mean of the conditional step
        # (|rest + delta|^2 - |rest|^2) / (2 * variance), with the variance 2 * length
        total[k + 1] = total[k] + (delta * (rest + delta / 2)).sum(1) / (2 * length)
    return total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-check-meter", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Quick test. A path that does what the conditional sampler does on average speaks for the condition.
path = np.array([[[0.0, 0.0]], [[1.0, 0.0]]])  # one step of length 1/2, conditional drift (2, 0)
reading = meter(lambda x, t: x + [1.0, 0.0], lambda x, t: x, path, np.array([1.0, 0.5]))
assert reading.shape == (2, 1) and reading[0, 0] == 0 and np.isclose(reading[1, 0], 0.5)
### BEGIN HIDDEN TESTS
def by_densities(cond, uncond, path, times):
    """One step, from the two log-densities themselves, whose constants cancel."""
    (x, after), (t, s) = path, times
    means = [x + (t - s) * (x + 2 * f(x, t)) for f in (cond, uncond)]
    logs = [-((after - mean)**2).sum(1) / (4 * (t - s)) for mean in means]
    return logs[0] - logs[1]


def own_steps(cond, uncond, path, times):
    """What the student's meter says of each step alone; refuses one that is blind to its input."""
    def read(*fields, ends=path[:2], between=times[:2]):
        return np.asarray(student.meter(*fields, ends, between), dtype=float)[-1]

    found = np.array([read(cond, uncond, ends=path[k:k + 2], between=times[k:k + 2])
                      for k in range(len(path) - 1)])
    assert np.isfinite(found).all(), "there are values that are not finite"
    assert np.abs(read(cond, cond)).max() < 1e-9, "two equal fields do not give zero"
    moved = read(cond, uncond, ends=path[:2] + np.array([0.0, 0.5])[:, None, None])
    seen = np.abs(moved - found[0]).max() > 1e-3 * np.abs(found).max()
    assert seen, "it does not matter where the step went"
    return found


p, label = draw_mixture(rng, d=1), int(rng.integers(3))
cond, uncond = fields(p, label)
with award(2, "One step: compare the two Gaussian densities at the point where the step went; "
              "their variance is twice its length."):
    for one in (np.array([1.1, 0.9]), np.array([0.6, 0.2])):
        path = rng.standard_normal((2, 30, 1))
        value = np.asarray(student.meter(cond, uncond, path, one), dtype=float)
        truth = np.stack([np.zeros(30), by_densities(cond, uncond, path, one)])
        assert error(value, truth) < 1e-6
x, times, noise = draw_run(rng, p, label, 30, 15)
with award(1, "Along a run, guided or not, the meter reads something else."):
    for w in (0.0, rng.uniform(1.0, 3.0)):
        path, truth = (f(p, label, w, x, times, noise) for f in (true_path, true_meter))
        assert error(student.meter(cond, uncond, path, times), truth) < 1e-6
with award(1, "Row k is not the sum of what your meter says of each of the first k steps alone: "
              "look at the first row and at the order."):
    path = true_path(p, label, 1.0, x, times, noise)[:8]
    steps = own_steps(cond, uncond, path, times[:8])
    sums = np.cumsum(np.vstack([0 * steps[:1], steps]), axis=0)
    assert error(student.meter(cond, uncond, path, times[:8]), sums) < 1e-6
with award(1, "In several dimensions a point still has one likelihood: the coordinates add up."):
    slopes, one = np.stack([rng.uniform(0.5, 1.0, 3), rng.uniform(1.5, 2.0, 3)]), times[:2]
    path = rng.standard_normal((2, 20, 3))
    together = own_steps(*(lambda x, t, a=a: -a * x for a in slopes), path, one)
    apart = [own_steps(*(lambda x, t, a=a: -a * x for a in slopes[:, j]), path[..., j:j + 1], one)
             for j in range(3)]
    assert error(together, sum(apart)) < 1e-6
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-text-3", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 3. What the samples say (7 points, 15 minutes, code)
#
# The runs are over, and each sample has its confidence $q = p(c \mid x)$, a number in $(0, 1]$.
#
# **(a)** (4 points) Write `judge(q, prior)` for confidences `q`, (n,) with n at least 500, of *guided* samples of a class whose
# probability in the data is `prior`. It returns `(mean, low, high, verdict)`: the sample mean of $1/q$; the ends of its usual 95%
# confidence interval (the mean, less and plus 1.96 standard errors; Student's t is fine too, the grader allows 1% of the width); and
# a text.
# There are no unguided samples to compare with, and you do not need any: the mean of $1/p(c \mid x)$ *without* guidance is known exactly.
# The text is `"lower"` if the whole interval lies below this number, `"higher"` if it lies above, and else `"open"`.
#
# **(b)** (3 points) Write `losers(before, after)` for the confidences of twins, both (n,). It returns `(share, floor)`. The `share`
# is that of the pairs whose confidence fell; a pair with two equal confidences did not lose. The `floor` is the share of
# losers that *no* pairing of the same numbers can avoid, the largest value over all thresholds $u$ of
#
# $$ (\text{share of `after`} \le u) - (\text{share of `before`} \le u). $$
#
# It is never negative, because a very small $u$ gives 0. For n = 2,000 the function may take 2 seconds; confidences may be equal.

# %% nbgrader={"grade": false, "grade_id": "ps4-judge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def judge(q, prior):
    """The mean of 1/q, its 95% interval, and the comparison: (mean, low, high, verdict)."""
    ### BEGIN SOLUTION
    inverse = 1 / q
    mean, half = inverse.mean(), 1.96 * inverse.std(ddof=1) / np.sqrt(len(q))
    baseline = 1 / prior
    verdict = "lower" if mean + half < baseline else "higher" if mean - half > baseline else "open"
    return mean, mean - half, mean + half, verdict
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-check-judge", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Quick test. The mean lies in its interval, and all of this is below the mean without guidance.
mean, low, high, verdict = judge(np.linspace(0.2, 0.9, 500), 0.25)
assert low < mean < high and verdict == "lower"
### BEGIN HIDDEN TESTS
q = rng.uniform(0.25, 0.95, 1000)
inverse = 1 / q
se = inverse.std(ddof=1) / np.sqrt(len(q))
with award(1, "The mean is that of 1/q, not one over a mean."):
    assert abs(student.judge(q, 0.4)[0] - inverse.mean()) < 1e-9
with award(1, "The ends of the interval are not 1.96 standard errors of the mean away."):
    ends, half = np.array(student.judge(q, 0.4)[1:3], dtype=float), 1.96 * se
    assert error(ends, inverse.mean() + np.array([-half, half]), scale=2 * half) < 0.01
with award(2, "A verdict is wrong: with which exact number is the interval compared, and where?"):
    for gap, verdict in ((12, "lower"), (-12, "higher"), (0.8, "open"), (-0.8, "open")):
        prior = 1 / (inverse.mean() + gap * se)
        assert str(student.judge(q, prior)[3]).strip().lower() == verdict
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ps4-losers", "locked": false, "schema_version": 3, "solution": true, "task": false}
def losers(before, after):
    """The share of pairs that lose, and the least share of any pairing: (share, floor)."""
    ### BEGIN SOLUTION
    # Between two values of `after` the first share stands still and the second can only grow.
    u = np.sort(after)
    gap = np.searchsorted(u, u, "right") - np.searchsorted(np.sort(before), u, "right")
    return np.mean(after < before), gap.max() / len(u)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-check-losers", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Quick test. The same numbers in another order: there are losers, and another pairing has none.
share, floor = losers(np.array([0.2, 0.5, 0.9]), np.array([0.5, 0.9, 0.2]))
assert 0 < share < 1 and abs(floor) < 1e-9
### BEGIN HIDDEN TESTS
n = 1500
before, order = rng.beta(4, 2, n).round(2) / 2 + 0.5, rng.permutation(n)
fall = rng.uniform(0.1, 0.3, n).round(1) + 4e-4  # no grid of thresholds finds these values
after = np.where(rng.random(n) < 0.35, before - fall, before)
with award(1, "The share of pairs that lose is another: which way, and are equal pairs counted?"):
    assert abs(student.losers(before, after)[0] - np.mean(before > after)) < 1e-9
    assert abs(student.losers(before, after[order])[0] - np.mean(before > after[order])) < 1e-9
with award(2, "The floor is the largest gap between the two distribution functions: it has a "
              "sign, and does not see the pairing."):
    levels = np.unique(np.concatenate([before, after]))[:, None]
    truth = ((after <= levels).mean(1) - (before <= levels).mean(1)).max()
    for pairing in (after, after[order]):
        assert abs(student.losers(before, pairing)[1] - truth) < 1e-9
    assert abs(student.losers(after, before)[1]) < 1e-9, "it is not zero where all can gain"
    low, high = np.sort(rng.uniform(0.3, 0.9, 2).round(2)) + [0.0, 0.05]
    value = student.losers(np.full(5, high), np.full(5, low))[1]
    assert abs(value - 1) < 1e-9, "it is not one where all must lose"
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-text-4", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Problem 4. Before you run it (6 points, 15 minutes, prediction)
#
# Below are three worlds on a line. `world(k)` builds world `k` as a mixture; the target is class 0, the strength is $w = 1$. The run
# starts at $T = 10$ from the noised class, both twins with one start and one noise.
#
# Do not run anything yet. Sketch the classes on paper.
#
# - `baselines`: the three exact means of $1/p(0 \mid x)$ *without* guidance (to six digits). The theorem says that guidance lowers all three.
# - `most_losers`: the world (0, 1 or 2) in which the largest share of the twins loses confidence through guidance.
#
# Then run it, and put the three shares of losers in `shares`: use your own functions, at least 4,000 pairs a world and the times
# $10\,(1 - k/200)^2$ for $k = 0, \ldots, 200$. The grader allows a difference of 0.07, six standard errors and more. Look also at
# the two sample means of $1/p$ in each world. The rest of the points are for the reason.

# %% tags=["instance"] nbgrader={"grade": false, "grade_id": "ps4-worlds", "locked": true, "schema_version": 3, "solution": false, "task": false}
# Three worlds: the weights, means, standard deviations and classes of their components, a list a world.
weights, means, sds, labels = draw_worlds(rng)

# %% nbgrader={"grade": false, "grade_id": "ps4-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
def world(k):
    """World k as a mixture on a line."""
    columns, variances = np.array(means[k])[:, None], np.array(sds[k])[:, None]**2
    return GaussianMixture(columns, weights[k], variances, labels[k])


# %% tags=["private"]
def draw_worlds(rng):
    """A pair (hardly a loser), a sandwich (one in four or five) and an overlap (about half).

    In any order, some mirrored: (weights, means, sds, labels), a list a world each.
    """
    def spread(values, by):
        return np.array(values) * rng.uniform(1 - by, 1 + by, len(values))

    half, share, left = rng.uniform(0.8, 1.2), rng.uniform(0.35, 0.65, 2), rng.uniform(0.3, 0.6)
    rest = 1 - share
    pair = [share[0], rest[0]], [-half, half], [1.0, 1.0], [0, 1]
    sandwich = ([share[1], rest[1] * left, rest[1] * (1 - left)],
                [0.0, -rng.uniform(0.7, 1.1), rng.uniform(1.1, 1.9)], [1.0, 1.0, 1.0], [0, 1, 1])
    overlap = (spread([0.266, 0.168, 0.266, 0.066, 0.078, 0.156], 0.12),
               spread([2.6, 2.8, 0.4, 2.8, -2.25, -1.25], 0.04),
               spread([0.9, 0.5, 0.3, 0.75, 0.85, 0.3], 0.04), [0, 0, 0, 1, 1, 1])
    lists = [], [], [], []
    for k in rng.permutation(3):
        weights, means, sds, labels = map(np.array, (pair, sandwich, overlap)[k])
        weights = (weights / weights.sum()).round(3)
        weights[0] = (1 - weights[1:].sum()).round(3)
        means = (means * rng.choice([-1, 1])).round(2) + 0.0  # + 0.0: no minus zero
        for column, values in zip(lists, (weights, means, sds.round(2), labels)):
            column.append(values.tolist())
    return lists


def build_worlds(weights, means, sds, labels):
    return [GaussianMixture(np.array(m)[:, None], w, np.array(s)[:, None]**2, c)
            for w, m, s, c in zip(weights, means, sds, labels)]


def share_of_losers(p, rng, n=4500, steps=200):
    """The share of twins that lose at w = 1, by the package."""
    x, strengths = noised(p.given(0), 10.0).sample(n, rng)[0], np.array([0.0, 1.0])
    noise = np.broadcast_to(rng.standard_normal((steps, 1, n, 1)), (steps, 2, n, 1))
    ends = sample(cfg(p, 0, strengths, process), process, np.stack([x, x]),
                  10 * np.linspace(1, 0, steps + 1)**2, "euler-maruyama", noise=noise,
                  progress=False)
    before, after = p.posterior(ends, 0)
    return np.mean(after < before)


# %% nbgrader={"grade": false, "grade_id": "ps4-prediction", "locked": false, "schema_version": 3, "solution": true, "task": false}
baselines = ...  # three numbers
most_losers = ...  # 0, 1 or 2
shares = ...  # three numbers
### BEGIN SOLUTION
def run_world(k, n=4000, seed=0):
    """The confidences of n twins of world k at w = 0 and w = 1."""
    p, rng, times = world(k), np.random.default_rng(seed), 10 * np.linspace(1, 0, 201)**2

    def cond(x, t):
        return p.given(0).noised(process.alpha(t), process.sigma(t)).score(x)

    def uncond(x, t):
        return p.noised(process.alpha(t), process.sigma(t)).score(x)

    x = p.given(0).noised(process.alpha(10.0), process.sigma(10.0)).sample(n, rng)[0]
    noise = rng.standard_normal((200, n, 1))
    return [p.posterior(guided_path(cond, uncond, w, x, times, noise)[-1], 0) for w in (0.0, 1.0)]


baselines = [1 / world(k).prior(0) for k in range(3)]
shares = [losers(*run_world(k))[0] for k in range(3)]
most_losers = int(np.argmax(shares))
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ps4-check-prediction", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points: 1 for the baselines, 1 for the world with most losers, 2 for the shares.
### BEGIN HIDDEN TESTS
worlds = build_worlds(**public)
truth = np.array([share_of_losers(p, rng) for p in worlds])  # now, so that no student waits for it
with award(1, "A baseline is wrong: it is exact, and needs no sample."):
    assert error(student.value("baselines"), np.array([1 / p.prior(0) for p in worlds])) < 1e-5
with award(1, "Another world has more losers: where does the pull lead to a place that the "
              "class shares with its rival?"):
    assert int(student.value("most_losers")) == truth.argmax()
with award(2, "A share differs from the package's: same start, same noise, w = 0 against w = 1, "
              "confidence at the end."):
    assert error(student.value("shares"), truth, scale=1) < 0.07
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps4-reason", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# In the world with the most losers, how can the mean of $1/p$ fall while so many samples get worse? The true fall is from `baselines[k]`;
# your two sample means of $1/p$ show little of it, or none. Why? Three sentences.
#
# ### BEGIN SOLUTION
# Without guidance a few rare samples with very small $p$ carry a large part of the mean, here about a quarter of it; guidance takes
# them away, and that pays for many small losses of the others, which are pushed out of the narrow place of the class to the one that
# it shares with its rival. A few thousand unguided samples contain almost none of the worst of these, so their sample mean lies far
# below the exact $1/p(c)$, mostly with an interval that misses it, and near the guided mean, on either side of it. The fall is seen
# only against the exact baseline.
#
# **Mark scheme.**
#
# - 1 point: the mean of 1/p is ruled by few samples with tiny p, which guidance removes; most samples lose only a little.
# - 1 point: the *unguided* sample mean is too low because its draws miss this tail (not: "the guided mean is wrong", not "noise").
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps4-proof", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# ## Problem 5. Rival by rival (6 points, 20 minutes, proof)
#
# Let the data be a Gaussian mixture of the classes $1, \ldots, K$, all of positive probability, with target $c$. For each class $j$ put
# $R^j_t(x) = p_t(j \mid x)/p_t(c \mid x)$, the odds of the rival $j$, and $\nabla\ell^j = \nabla\log p_t(j \mid x)$, and write
# $\nabla\ell$ for $\nabla\ell^c$.
#
# **(a)** Let $X$ be the unguided run of class $c$. Show $E[R^j_s(X_s) \mid X_t = y] = R^j_t(y)$ for $0 \le s < t$, and deduce that
# $M_t = 1/p_t(c \mid \cdot)$ is a martingale. (You may use that noising from $s$ to $t$ has the same density $k(y \mid x)$ for every
# class.)
#
# **(b)** Show that along the run with guidance $w$ the odds have the drift $2w\,R^j\,\nabla\ell\cdot(\nabla\ell^j - \nabla\ell)$.
#
# **(c)** Sum over $j$ and recover the drift of $M$. Then answer: does guidance lower the expected odds of *every* rival, from every point and
# for every law? Treat $K = 2$ and $K \ge 3$; for a "no" it is enough to say where the drift of a rival is positive.
#
# ### BEGIN SOLUTION
# (a) Within class $c$, Bayes' rule gives $X_s$ given $X_t = y$ the density $p_s(x \mid c)\,k(y \mid x)/p_t(y \mid c)$. With
# $R^j_s(x) = \frac{p(j)\,p_s(x \mid j)}{p(c)\,p_s(x \mid c)}$ the density $p_s(x \mid c)$ cancels:
# $\int R^j_s\,\frac{p_s(x \mid c)\,k(y \mid x)}{p_t(y \mid c)}\,dx = \frac{p(j)}{p(c)\,p_t(y \mid c)}\int p_s(x \mid j)\,k(y \mid x)\,dx
# = \frac{p(j)\,p_t(y \mid j)}{p(c)\,p_t(y \mid c)} = R^j_t(y)$. As $\sum_j p_t(j \mid x) = 1$, $M = \sum_j R^j$ (with $R^c = 1$) has the same
# property. The reverse run is Markov, so to condition on $X_t$ is to condition on its whole past: both are martingales.
#
# (b) By (a) the drift of $R^j$ along the unguided run is zero from every point. Guidance adds $2w\,\nabla\ell$ to the drift of the run, so
# it adds $2w\,\nabla\ell\cdot\nabla R^j$ (Ito), and $\nabla R^j = R^j\,(\nabla\ell^j - \nabla\ell)$.
#
# (c) $\sum_j R^j\nabla\ell^j = \frac{1}{p_t(c \mid x)}\sum_j\nabla p_t(j \mid x) = 0$, and $\sum_j R^j\nabla\ell = M\nabla\ell$, so $M$ has
# the drift $-2w\,M|\nabla\ell|^2$. For $K = 2$ the only rival has $R = M - 1$, whose drift is the same and nowhere positive: its expected odds never rise. For $K \ge 3$
# a rival's odds may rise: where $\nabla\ell\cdot\nabla\ell^j > |\nabla\ell|^2$ those of $j$ do, on average over runs from there. With one variance $v$ for all classes,
# $\nabla\ell^j - \nabla\ell = \alpha(\mu_j - \mu_c)/(\alpha^2v + \sigma^2)$: on a line, a rival on the far side of the class, seen from
# where the push comes, gains. Three unit Gaussians at $-1, 0, 1$ with the probabilities 0.6, 0.3, 0.1 and the middle one as the
# target: at $w = 1$ the mean odds of the first fall from 2 to 1.214, those of the last rise from 0.333 to 0.397 (`exact.evolve`,
# $T = 10$). Only the sum must fall.
#
# **Mark scheme.**
#
# - 3 points: (a) 1 for the conditional density of the run (it is the noised class, run backwards), 1 for the cancellation that leaves
# the odds at $y$, 1 for the sum over j that gives M (the word Markov is not asked for).
# - 1 point: (b) zero drift without guidance, by (a), plus the gradient of a quotient.
# - 2 points: (c) 1 for the sum, with the gradients of all posteriors adding up to zero; 1 for "yes" at K = 2 and "no" at
# K = 3 or more, with the condition or an example.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps4-open", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ## Problem 6. Open (3 points, 10 minutes)
#
# You guide an image model by two networks and have no classifier. You make 1,000 images of a class and hand over 900. Design an
# experiment that decides whether dropping the hundred with the lowest *meter* is better than dropping a hundred at random: what you
# measure and who judges, against which control, at which strengths, and which outcome would make you give up the meter. Name one harm
# that the filter could do even if it passes. Half a page; you need not run it.
#
# ### BEGIN SOLUTION
# Many answers are good. One: w in 0.5, 1, 2, 4, 20 independent batches of 1,000 from common starts and noise. Judges are people, or
# a classifier trained on other data, who see the images in random order and do not know the meter. Measured: the share of wrong images among the 900
# kept, less the same share after random drops, per batch, with an interval over the batches. At each w also the AUC of the meter.
# Given up where the interval of the difference contains 0 or lies on the wrong side, which I expect at large w, where the networks are
# surest of images that were driven too far. A harm: rare modes of the class lie near other classes and are dropped first, so compare
# the counts of modes, or the entropy, before and after.
#
# **Mark scheme.**
#
# - 1 point: a judge outside the two networks, blind to the meter, and a random drop (or none) of the same size as the control.
# - 1 point: several strengths, an interval over independent batches, and an outcome stated beforehand that refutes the meter.
# - 1 point: a harm that the measure would not show: rare modes, diversity, a law that nobody asked for, a meter that is being optimised.
# ### END SOLUTION
