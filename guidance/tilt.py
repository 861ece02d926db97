"""The tilted law p(x | c) p(c | x)^w: what guidance is often said to sample, and does not.

`Tilted` is that law, normalised: densities, expectations by quadrature, exact draws, and the score of its noised
versions (tilt, then noise), where guidance tilts the noised laws (noise, then tilt). `corrected_sample` turns a guided
reverse SDE into the tilted law by weights along its paths.

That guidance does not sample the tilted law: Chidambaram et al. (2409.13074), in substance; Du et al. (2302.11552) and
Bradley & Nakkiran (2408.09000), in substance. The algorithms here are ours.
"""
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import quadrature, samplers
from .mixtures import GaussianMixture

FEWEST = 1e-5  # of the draws accepted
BLOCK = 400_000  # numbers looked at together
DEPTH = 80.0  # a lattice holds the points where the density is within exp(-DEPTH) of its peak
LOST = 30.0  # what is smaller by exp(-LOST) is left out of a trapezoidal sum
AGREED = 1e-7  # the sums over even points and over all others: their whole is better, at best right to the square of it
LARGEST = {"lattice": 50_000, "box": 1_000_000, "sum": 1_000_000, "cells": 100_000}  # points of each


@dataclass(frozen=True, eq=False)
class Tilted:
    """The law with density proportional to p(x | label) p(label | x)^w.

    p : `GaussianMixture`, or an un-noised `UniformMixture`, whose tilted law is again one and is exact.  label : the class.
    w : a number >= -1: 0 is p(. | label), -1 the whole law p; below 0 the density is p(x) p(label | x)^(1 + w) up to a constant.

    Points x are (..., d), float32 or float64, as in `GaussianMixture`. `expect`, and for a `GaussianMixture` all that needs the
    normaliser, are quadratures for d <= 2, and raise ValueError beyond; `sample` and `score` work in any d. An answer not known
    to 1e-8, relative to the mean size of what is averaged, raises RuntimeError.
    Raises ValueError for an unknown label, a label of probability zero, or w < -1 (there the integral may be infinite).
    """

    p: object
    label: object
    w: float

    def __post_init__(self):
        self.p.given(self.label)
        if np.ndim(self.w) != 0 or not -1 <= self.w < np.inf:
            raise ValueError(f"w must be a number >= -1, got {self.w!r}: below -1 the tilted density may have no finite integral")
        if hasattr(self.p, "lows") and self.p.noise != 0:
            raise ValueError(f"p must be boxes without noise, got noise = {self.p.noise!r}: tilt first, then use noised_score")
        for name, value in dict(w=float(self.w), _lattices={}).items():
            object.__setattr__(self, name, value)

    @property
    def d(self):
        """Number of dimensions."""
        return self.p.d

    def log_prob(self, x):
        """The log-density (...) at x (..., d); -inf outside the boxes of the class."""
        return self._boxes.log_prob(x) if self._boxes else self._log_weight(x) - self._resolved[0]

    def score(self, x):
        """grad log-density (..., d) at x (..., d): (1 + w) grad log p(x | label) - w grad log p(x)."""
        return self._boxes.score(x) if self._boxes else self.p.guided_score(x, self.label, self.w)

    @property
    def log_normaliser(self):
        """log E[p(label | X)^w | label], a float: for w >= 0 the log-probability that plain rejection accepts."""
        return float(self._resolved[0] - (np.log(self.p.prior(self.label)) if self.w < 0 else 0.0))

    def cdf(self, x):
        """P(X <= x) in d = 1, to 1e-9, for x a number or an array of any shape."""
        x, (edges, levels) = np.asarray(x, float), self._levels
        if not np.all(np.isfinite(x)):
            raise ValueError(f"x must be finite, got {x!r}")
        i = np.clip(np.searchsorted(edges, x.ravel(), side="right") - 1, 0, len(levels) - 2)
        below = levels[i] + self._mass(edges[i], np.clip(x.ravel(), edges[0], edges[-1]))
        return np.clip(below, 0, 1).reshape(x.shape)[()]

    def quantile(self, u):
        """The u-quantile in d = 1, for u a number or an array in (0, 1): the inverse of `cdf`, by bisection."""
        u, (edges, levels) = np.asarray(u, float), self._levels
        if not np.all((0 < u) & (u < 1)):
            raise ValueError(f"u must be in (0, 1), got {u!r}")
        i = np.clip(np.searchsorted(levels, u.ravel()) - 1, 0, len(levels) - 2)
        low, high = edges[i], edges[i + 1]
        for _ in range(50):
            middle = 0.5 * (low + high)
            short = levels[i] + self._mass(edges[i], middle) < u.ravel()
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return (0.5 * (low + high)).reshape(u.shape)[()]

    def expect(self, f):
        """E[f(X)] by adaptive quadrature, d <= 2, for f: (n, d) -> (n,) or (n, m). Returns a float, or (m,).

        Jumps of f along the axes are resolved; for jumps along curves in d = 2 average over `sample`. Points farther than 37 standard
        deviations from every component are left out. Raises RuntimeError if the answer is not known to 1e-8, if f is not finite, or
        if f grows so fast that the mean may be infinite; ValueError for d > 2.
        """
        _, low, high = self._resolved

        def integrand(x):
            values = np.asarray(f(x), float)
            if values.ndim not in (1, 2) or len(values) != len(x):
                raise ValueError(f"f must return (n,) or (n, m) for its {len(x)} points (n, d), got shape {values.shape}")
            density = np.exp(self.log_prob(x))[:, None]
            with np.errstate(invalid="ignore"):  # where the density underflows even an infinite f counts for nothing
                return np.where(density > 0, values.reshape(len(x), -1) * density, 0)

        value = quadrature.integrate(integrand, low, high, tails=not self._boxes)[0]
        return value if np.ndim(f(low[:1])) == 2 else float(value[0])

    def mean(self):
        """E[X], (d,)."""
        return self._boxes.mean() if self._boxes else self.expect(lambda x: x)

    def cov(self):
        """Cov[X], (d, d)."""
        if self._boxes:
            return self._boxes.cov()
        mean = self.mean()
        return self.expect(lambda x: np.einsum("ni,nj->nij", x - mean, x - mean).reshape(len(x), -1)).reshape(self.d, self.d)

    def entropy(self):
        """The differential entropy -E[log density(X)], a float."""
        return self.expect(lambda x: -self.log_prob(x))

    def sample(self, n, rng):
        """n independent, exact draws, x (n, d) in the precision of p: only the points, which all count as `label`.

        Rejection: draws of p(. | label) are kept with probability p(label | x)^w, and for w < 0 draws of p with
        probability p(label | x)^(1 + w). rng : numpy.random.Generator. Where that keeps fewer than one in 100,000, the draws
        are quantiles in d = 1, and RuntimeError is raised in d > 1: then use `corrected_sample`.
        """
        if int(n) != n or n < 0:
            raise ValueError(f"n must be an integer >= 0, got {n!r}")
        if self._boxes:
            return self._boxes.sample(n, rng)[0]
        from tqdm import tqdm  # not tqdm.auto: its notebook bar ignores TQDM_DISABLE

        (base, power), tried, accepted, have = self._base, 0, 0.0, 0
        kept = [base.sample(0, rng)[0]]
        with tqdm(total=n, leave=False, desc="rejection", delay=3) as bar:
            while have < n:
                rate = max(accepted / tried, FEWEST) if tried else 0.5
                size = int(np.clip(1.1 * (n - have) / rate, 1000, max(1000, BLOCK // self.d)))
                x = base.sample(size, rng)[0]  # (size, d)
                log_keep = power * self.p.log_posterior(x, self.label)  # (size,)
                kept.append(x[-rng.standard_exponential(size) < log_keep])
                tried, accepted, have = tried + size, accepted + np.exp(log_keep).sum(), have + len(kept[-1])
                bar.update(len(kept[-1]))
                if tried >= 1 / FEWEST and accepted < FEWEST * tried:
                    if self.d == 1:
                        return self.quantile(1 - rng.random(int(n)))[:, None].astype(self.p.dtype, copy=False)
                    share = f"a share of only {accepted / tried:.1e} of the draws of p(x | {self.label!r}) at w = {self.w:g}"
                    raise RuntimeError(f"rejection keeps {share}: take a smaller w, or tilt.corrected_sample, which weights guided paths")
        return np.concatenate(kept)[: int(n)]

    def noised_score(self, x, alpha, sigma):
        """The score (..., d) of the law of alpha X + sigma eps at x (..., d), X of the tilted law: tilt, then noise.

        For any alpha >= 0 and sigma >= 0, not both zero; d <= 2 for a `GaussianMixture`. The law of X_0 given x is summed by the
        trapezoidal rule, which converges exponentially, until two parts of the sum agree: on one lattice for all x where
        the noise is wide, else on a lattice for each x. Raises RuntimeError where they do not agree.
        """
        if self._boxes:
            return self._boxes.noised(alpha, sigma).score(x)
        (base, power), alpha, sigma = self._base, float(alpha), float(sigma)
        untilted, (flat, shape) = base.noised(alpha, sigma), self.p._flat(x)
        if power == 0 or alpha == 0:
            return untilted.score(x)
        if sigma == 0:
            return self.score(x / alpha) / alpha
        if not np.all(np.isfinite(flat)):
            raise ValueError("x must be finite, got NaN or infinity")
        y, waiting, narrowest = flat.astype(float), np.arange(len(flat)), self.p.covs.variances[self.p.weights > 0].min()
        unit = 1 / np.hypot(sigma, alpha * np.sqrt(narrowest))
        out, step = np.empty_like(y), 0.5 * sigma * np.sqrt(narrowest) * unit  # of the deviations of X_0 given x, half the smallest
        for finer in (0, 2, 4):
            halves = self._lattice(int(np.floor(2 * np.log2(step))) - finer)
            if halves is None:
                break
            noised = [half.noised(alpha, sigma) for half in halves]
            (a, b), (s, t) = ([half.log_prob(y[waiting]) for half in noised], [half.score(y[waiting]) for half in noised])
            out[waiting] = t + (s - t) / 2**self.d  # of the points, so many are even
            reached = a > LOST - DEPTH - self.d * np.log(sigma)  # below, points outside the lattice could matter
            waiting = waiting[~(reached & _agree(a, b, s, t, unit))]
        out[waiting] = _local_sums(self, y[waiting], alpha, sigma, narrowest)
        return out.reshape(shape).astype(flat.dtype, copy=False)

    @cached_property
    def _base(self):
        # The density is base(x) p(label | x)^power, with power >= 0: then it is at most base(x).
        return (self.p.given(self.label), self.w) if self.w >= 0 else (self.p, 1 + self.w)

    def _log_weight(self, x):
        base, power = self._base
        return base.log_prob(x) + (power * self.p.log_posterior(x, self.label) if power else 0)

    @cached_property
    def _resolved(self):
        """The log of the integral of exp(_log_weight), and boxes low, high (m, d) that resolve the density."""
        if self._boxes:
            low, high = self._boxes.lows, self._boxes.highs
            inside = 0.5 * (low + high)[:1]
            return float((self._log_weight(inside) - self.log_prob(inside))[0]), low, high
        held = self.p.weights > 0
        means, spread = self.p.means[held].astype(float), np.sqrt(self.p.covs.variances[held])  # (K, d), (K, d) or (K, 1)
        low, high = quadrature.panels(means, spread.min(1), spread.max(1))
        peak = float(max(self._log_weight(x).max() for x in (means, 0.5 * (low + high))))
        total, low, high = quadrature.integrate(lambda x: np.exp(self._log_weight(x) - peak)[:, None], low, high)
        return peak + float(np.log(total[0])), low, high

    @cached_property
    def _levels(self):
        # On a line: edges of intervals (m + 1,), from left to right, and the probabilities below them.
        if self.d != 1:
            raise ValueError(f"cdf and quantile need d = 1, got d = {self.d}")
        edges = np.unique(np.concatenate(self._resolved[1:]))
        return edges, np.append(0.0, np.cumsum(self._mass(edges[:-1], edges[1:])))

    def _mass(self, low, high):
        # The probability (n,) of each interval from low to high (n,) on a line, within one of the intervals of `_levels`.
        (nodes, weights), half = np.polynomial.legendre.leggauss(quadrature.NODES[1]), 0.5 * (high - low)
        return half * (np.exp(self.log_prob((low[:, None] + half[:, None] * (1 + nodes))[..., None])) @ weights)

    def _lattice(self, k):
        """The law as atoms on a lattice of step 2^(k / 2), two mixtures: of its even points, and of all others; None if too many."""
        if k not in self._lattices:
            base, (_, low, high), step = self._base[0], self._resolved, 2.0 ** (k / 2)
            peak = float(self._log_weight(0.5 * (low + high)).max())
            fall = max(float(base.log_prob(base.means.astype(float)).max()) - peak, 0)
            reach = np.sqrt(2 * (DEPTH + fall) * base.covs.variances.max(1, keepdims=True))  # (K, 1)
            first, last = np.floor((base.means - reach).min(0) / step), np.ceil((base.means + reach).max(0) / step)
            self._lattices[k] = None
            if np.prod(last - first + 1) <= LARGEST["box"]:
                places = quadrature.lattice([np.arange(a, b + 1) for a, b in zip(first, last)])  # (N, d)
                logs = self._log_weight(step * places) - peak
                halves = [(logs > -DEPTH) & ((places % 2 == 0).all(1) == even) for even in (True, False)]
                if 0 < min(sizes := [rows.sum() for rows in halves]) and sum(sizes) <= LARGEST["lattice"]:
                    self._lattices[k] = [GaussianMixture(step * places[rows], _shares(logs[rows]), 1e-300) for rows in halves]
        return self._lattices[k]

    @cached_property
    def _boxes(self):
        # The tilted law of boxes, again boxes, all disjoint; None for Gaussians.
        if not hasattr(self.p, "lows"):
            return None
        base, held, some = self._base[0], self._base[0].weights > 0, self.p.weights > 0
        lows, highs = _cut(base.lows[held], base.highs[held], self.p.lows[some], self.p.highs[some])
        weights = _shares(self._log_weight(0.5 * (lows + highs)) + np.log(highs - lows).sum(1))  # (C,)
        rows = weights > 0
        return type(self.p)(lows[rows], highs[rows], weights[rows], np.full(rows.sum(), self.label))


def exact_score(target, process):
    """The score field of "tilt, then noise": score(x, t) -> like x, which samples `target` where `cfg` does not.

    target : `Tilted`, with d <= 2 for Gaussian mixtures.  process : what noises it, e.g. `OU()`.
    """
    if not isinstance(target, Tilted):
        raise TypeError(f"target must be a Tilted law, got {type(target).__name__}: use tilt.Tilted(p, label, w)")
    return lambda x, t: target.noised_score(x, process.alpha(t), process.sigma(t))


@dataclass(frozen=True, eq=False)
class Corrected:
    """What `corrected_sample` returns: weighted draws of the tilted law, and how they came about."""

    x: np.ndarray  # (n, d), at the last time
    log_weights: np.ndarray  # (n,), normalised: exp of them sums to one
    effective: np.ndarray  # (steps + 1,), the effective sample size at each time, before resampling
    resampled: np.ndarray  # (steps + 1,) bool, whether the particles were resampled at that time
    log_normaliser: float  # an estimate of log E[p(label | X)^w | label]

    def mean(self, values):
        """The weighted mean of values (n,) or (n, m) at the draws: a float or (m,)."""
        return np.exp(self.log_weights) @ np.asarray(values, float)


def corrected_sample(p, label, w, process, x, times, rng, *, resample_below=0.5, progress=True):
    """Guided reverse SDE with weights that make its output the tilted law (Feynman-Kac, sequential Monte Carlo).

    With l_t = log p_t(label | .), and along dx = (-f x + g^2 (s_c + w grad l)) dtau + g dB,

        E[exp(A) phi(X_0) p_T(label | X_T)^w] = E[p(label | X)^w phi(X) | label],   A = w (1 + w) / 2 int g^2 |grad l_t(X_t)|^2 dt.

    Proof (ours): under the unguided reverse SDE 1 / p_t(label | X_t) is a martingale, so d p^w = p^w (w g grad l dB +
    w (w + 1) / 2 g^2 |grad l|^2 dtau); Girsanov's theorem takes the first term into the guided drift. The same weights, in
    another clock: Skreta et al. (2503.02819), in substance.

    Parameters
    ----------
    p, label, process : as in `cfg`.  w : a number.  rng : numpy.random.Generator.
    x : (n, d) float, draws of the noised class law p_T(. | label) at times[0]; pure noise where alpha(T) is negligible.
    times : (steps + 1,) strictly decreasing. Euler-Maruyama in between, with A by the trapezoidal rule: the error is of first order.
        Grids in time suit it: one in the angle begins with a very long step.
    resample_below : draws are resampled when they are worth fewer than this share of n; 0 keeps them all, and so independent.

    Returns `Corrected`. For equally weighted draws: result.x[systematic_resample(result.log_weights, rng)].
    """
    times, inside = samplers._checked_times(times), p.given(label)
    samplers._check_start(x)
    if np.ndim(w) != 0 or not np.isfinite(w):
        raise ValueError(f"w must be a finite number, got {w!r}")
    if x.ndim != 2:
        raise ValueError(f"x must be (n, d), got shape {x.shape}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, as numpy.random.default_rng(seed) makes, got {rng!r}")
    if not 0 <= resample_below <= 1:
        raise ValueError(f"resample_below must be a share in [0, 1], got {resample_below!r}")

    def fields(x, t):
        # The guided score (n, d), and the rate of A (n,).
        alpha, sigma = process.alpha(t), process.sigma(t)
        cond = inside.noised(alpha, sigma).score(x)
        pull = cond - p.noised(alpha, sigma).score(x)  # (n, d): grad l
        return cond + w * pull, 0.5 * w * (1 + w) * float(process.diffusion(t)) ** 2 * (pull.astype(float) ** 2).sum(1)

    n, steps = len(x), len(times) - 1
    law = p.noised(process.alpha(times[0]), process.sigma(times[0]))
    logs = w * law.log_posterior(x, label).astype(float) - np.log(n)  # (n,), whose log-sum estimates the normaliser
    effective, resampled = np.empty(steps + 1), np.zeros(steps + 1, bool)
    effective[0], (score, rate) = effective_size(logs), fields(x, times[0])
    for i in samplers._with_progress(steps) if progress else range(steps):
        t, s, draw = float(times[i]), float(times[i + 1]), lambda: rng.standard_normal(x.shape, dtype=x.dtype)
        x, _ = samplers.euler_maruyama_step(lambda x, t: score, process, x, t, s, draw, None)
        before, (score, rate) = rate, fields(x, s)
        logs = logs + 0.5 * (t - s) * (before + rate)
        if not np.all(np.isfinite(logs)):
            raise FloatingPointError("the weights left the finite numbers: take more steps, a smaller w, or a larger last time")
        effective[i + 1] = effective_size(logs)
        if effective[i + 1] < resample_below * n and i + 1 < steps:
            rows = systematic_resample(logs, rng)
            x, score, rate = x[rows], score[rows], rate[rows]
            logs, resampled[i + 1] = np.full(n, _log_sum(logs) - np.log(n)), True
    return Corrected(x, logs - _log_sum(logs), effective, resampled, float(_log_sum(logs)))


def effective_size(log_weights):
    """(sum weights)^2 / sum weights^2 of log-weights (n,), a float in [1, n]: how many equal weights are worth as much."""
    return float(1 / (_shares(log_weights) ** 2).sum())


def systematic_resample(log_weights, rng):
    """Rows (n,) in which row i stands floor or ceil of n times its normalised weight, from one uniform draw (Kitagawa 1996).

    log_weights : (n,), normalised or not, -inf allowed.  rng : numpy.random.Generator."""
    levels = np.cumsum(_shares(log_weights))
    n, levels[-1] = len(levels), 1.0
    return np.searchsorted(levels, (np.arange(n) + rng.random()) / n, side="right").clip(max=n - 1)


def _log_sum(logs):
    shift = logs.max()
    return shift + np.log(np.exp(logs - shift).sum())


def _shares(logs):
    logs = np.asarray(logs)
    if logs.dtype.kind != "f" or logs.ndim != 1 or not logs.size or np.any(np.isnan(logs)) or not np.isfinite(logs.max()):
        raise ValueError(f"log_weights must be (n,) floats, not NaN or +inf and not all -inf, got {logs!r}")
    return np.exp(logs - _log_sum(logs))


def _local_sums(target, x, alpha, sigma, narrowest):
    # With X_0 = (x + sigma z) / alpha the score (n, d) at x (n, d) is the mean of target.score(X_0) / alpha given x, here over a lattice
    # of z for each x. Nothing is divided by sigma^2: the answer stays right as sigma goes to 0. Of the base law, z given x is a mixture of
    # Gaussians of known shares; p(label | .)^power <= 1, and its mean `log_mean`, bound what lies outside the lattice.
    (n, d), base, score, waiting, log_mean = x.shape, target._base[0], np.empty_like(x), np.arange(len(x)), np.zeros(len(x))
    V = base.covs.matrices(d)
    inverse, offset = np.linalg.inv(alpha**2 * V + sigma**2 * np.eye(d)), x[:, None] - alpha * base.means  # (K, d, d), (n, K, d)
    middle, deviation = -sigma * np.einsum("nki,kij->nkj", offset, inverse), alpha * np.sqrt(np.einsum("kij,kji->ki", inverse, V))
    with np.errstate(divide="ignore"):
        shares = np.log(base.weights) + 0.5 * np.linalg.slogdet(inverse)[1] + 0.5 * (offset * middle).sum(2) / sigma  # (n, K)
    log_total, unit = np.logaddexp.reduce(shares, axis=1), 1 / np.hypot(sigma, alpha * np.sqrt(narrowest))  # (n,)
    step = np.full(n, 0.5 * alpha * np.sqrt(narrowest / (alpha**2 * narrowest + sigma**2)))
    while len(waiting):
        room = LOST + shares - log_total[:, None] - log_mean[:, None]  # (n, K)
        reach = np.where(room > 0, np.sqrt(2 * np.maximum(room, 0)), -np.inf)[..., None] * deviation  # (n, K, d)
        low, high = (middle - reach).min(1), (middle + reach).max(1)  # (n, d)
        counts, settled, done = np.ceil(0.5 * (high - low).max(1) / step).astype(int), np.zeros(n, bool), 0
        waiting = waiting[np.argsort(counts[waiting])]
        if (2 * counts[waiting[-1]] + 1) ** d > LARGEST["sum"]:
            where = f"for {len(waiting)} points of {n} at alpha = {alpha:g}, sigma = {sigma:g}, w = {target.w:g}"
            raise RuntimeError(f"noised_score does not settle {where}: p(label | x)^w is too steep there, or a component is too narrow")
        while done < len(waiting):
            rows = waiting[done : done + max(1, BLOCK // (2 * counts[waiting[done]] + 1) ** d)]
            count, done = counts[rows[-1]], done + len(rows)
            places = quadrature.lattice([np.arange(-count, count + 1)] * d)  # (N, d)
            even, cell = (places % 2 == 0).all(1), 0.5 * (high - low)[rows] / count  # (N,), (C, d)
            z = 0.5 * (high + low)[rows, None] + cell[:, None] * places  # (C, N, d)
            logs = target._log_weight((x[rows, None] + sigma * z) / alpha) - 0.5 * (z**2).sum(2)  # (C, N)
            summit = logs.max(1)  # (C,)
            share = np.exp(logs - summit[:, None])
            slopes = share[..., None] * target.score((x[rows, None] + sigma * z) / alpha) / alpha  # (C, N, d)
            (a, s), (b, t) = ((share[:, part].sum(1), slopes[:, part].sum(1)) for part in (even, ~even))
            score[rows] = (s + t) / (a + b)[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                agreed = _agree(np.log((2**d - 1) * a), np.log(b), s / a[:, None], t / b[:, None], unit)
            found = summit + np.log(a + b) + np.log(cell / alpha).sum(1) - log_total[rows]
            held = found > log_mean[rows] - 1
            log_mean[rows] = np.where(held, log_mean[rows], np.maximum(found, 2 * log_mean[rows] - LOST))
            settled[rows], step[rows] = held & agreed, np.where(held & ~agreed, 0.5, 1) * step[rows]
        waiting = waiting[~settled[waiting]]
    return score


def _agree(log_a, log_b, first, second, unit):
    # Two parts of a sum: the logarithms of their weights (n,), and weighted means (n, d).
    return (np.abs(first - second) <= AGREED * (np.abs(first) + unit)).all(1) & (np.abs(log_a - log_b) <= AGREED)


def _cut(lows, highs, all_lows, all_highs):
    # The union of boxes (K, d) cut along every face of the boxes (J, d) that overlap it: disjoint cells lows, highs (C, d).
    meets = np.all((all_lows[:, None] < highs) & (lows < all_highs[:, None]), axis=2).any(1)  # (J,)
    faces, cells = np.concatenate([all_lows[meets], all_highs[meets]]), []  # (2 J, d)
    for low, high in zip(lows, highs):
        sides = [np.unique(column[(a <= column) & (column <= b)]) for column, a, b in zip(faces.T, low, high)]
        if np.prod([float(len(side) - 1) for side in sides]) > LARGEST["cells"]:
            raise ValueError(f"too many boxes overlap in d = {len(low)}: their faces cut a box into more than {LARGEST['cells']} cells")
        corners = (quadrature.lattice([side[part] for side in sides]) for part in (np.s_[:-1], np.s_[1:]))
        cells.append(np.stack(list(corners), axis=1))  # (C, 2, d)
    return np.moveaxis(np.unique(np.concatenate(cells), axis=0), 1, 0)
