"""Uniform laws on boxes, and the exact scores of their noised versions.

A box noised by sigma has independent sides, each with the density (Phi(a) - Phi(b)) / width, a = (x - low) / sigma and
b = (x - high) / sigma. Every formula below is for the distance u = |x - centre| / sigma from the centre and the half width
k = width / (2 sigma), so that a = u + k and b = u - k:

    Phi(a) - Phi(b) = exp(-b^2 / 2) (erfcx(b / sqrt 2) - exp(-2 u k) erfcx(a / sqrt 2)) / 2       outside the box
                    = 1 - exp(-b^2 / 2) (erfcx(-b / sqrt 2) + exp(-2 u k) erfcx(a / sqrt 2)) / 2  inside it
                    = 2 k phi(u) I(u k),  I(c) = integral over (0, 1) of cosh(c t) exp(-k^2 t^2 / 2) dt

The first two lose no digits when k >= 1 or u k >= 1; where both are smaller, so where the noise is wider than the box, the third is a
short power series in c. Two-class mixtures of such boxes are the laws of Chidambaram et al. (2409.13074), in substance; the formulas
are ours.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import factorial

import numpy as np

from .mixtures import GaussianMixture, _expect, _floats, _strengths, expit

TERMS = 10  # of the series: the first one left out is below 1e-20
NUMBERS = 1 << 15  # points times boxes times dimensions that are computed at once
LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True, eq=False)
class UniformMixture:
    """sum_k weights_k U(box_k) on boxes [lows_k, highs_k], with a class label on every box, noised by `noise` >= 0.

    Parameters
    ----------
    lows, highs : (K, d) float32 or float64, lows < highs. Boxes may touch, overlap and lie within one another.
    weights : (K,), >= 0, summing to one; zeros are allowed. Default: equal.
    labels : (K,) integers or strings, the class of each box. Default: every box is its own class, 0 .. K - 1.
    noise : >= 0, the standard deviation of Gaussian noise that is added; `noised` sets it.

    All methods take points x (..., d), float32 or float64, with at least one leading axis; they compute in float64 and answer in x's
    precision. Points that hold NaN or infinity, are integers, or have another last axis raise ValueError or TypeError; so does a label
    that no box has.

    Without noise the density is zero outside the (closed) boxes: log_prob is -inf there. The score is zero inside; outside there is no
    score, and no posterior, and ValueError is raised: stop a run at t_min > 0.
    """

    lows: np.ndarray
    highs: np.ndarray
    weights: np.ndarray = None
    labels: np.ndarray = None
    noise: float = 0.0

    def __post_init__(self):
        given = np.asarray(self.lows), np.asarray(self.highs)
        lows, highs = _floats("lows", self.lows), _floats("highs", self.highs)
        _expect(lows.ndim == 2 and lows.size > 0, "lows", lows, "lows must be (K, d): for one box on a line write [[0.0]]")
        _expect(highs.shape == lows.shape, "highs", highs, f"highs must be like lows, {lows.shape}")
        if not (np.ndim(self.noise) == 0 and 0 <= self.noise < np.inf):
            raise ValueError(f"noise must be a finite number >= 0, got {self.noise!r}")
        if not np.all(lows < highs):
            k, i = np.argwhere(~(lows < highs))[0]
            raise ValueError(f"lows must be below highs, got {lows[k, i]!r} and {highs[k, i]!r} for box {k} in dimension {i}")
        frame = GaussianMixture(lows, self.weights, labels=self.labels)  # the same rules for weights and labels
        dtype = np.dtype(np.float32) if all(a.dtype == np.float32 for a in given) else np.dtype(float)
        fields = dict(lows=lows, highs=highs, weights=frame.weights, labels=frame.labels, noise=float(self.noise), dtype=dtype)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    # What follows from weights, labels and shapes alone is the same for all mixtures.
    classes, prior, posterior = GaussianMixture.classes, GaussianMixture.prior, GaussianMixture.posterior
    _members, _split = GaussianMixture._members, GaussianMixture._split

    @property
    def K(self):
        """Number of boxes."""
        return self.lows.shape[0]

    @property
    def d(self):
        """Number of dimensions."""
        return self.lows.shape[1]

    def given(self, label):
        """The class-conditional law p(x | label), again a UniformMixture. Raises ValueError if p(label) = 0."""
        rows = np.flatnonzero(self._members(label))
        prior = self.weights[rows].sum()
        if prior == 0:
            raise ValueError(f"label {label!r} has probability zero: there is no law of x given it")
        return self._with(lows=self.lows[rows], highs=self.highs[rows], weights=self.weights[rows] / prior, labels=self.labels[rows])

    def noised(self, alpha, sigma):
        """The law of alpha X + sigma eps, eps ~ N(0, I): again a UniformMixture, on boxes alpha times as large.

        Raises ValueError if alpha or sigma is negative or not finite, or if nothing is left: alpha = 0 and no noise.
        """
        if not (0 <= alpha < np.inf and 0 <= sigma < np.inf) or alpha == sigma == 0:
            raise ValueError(f"noised needs finite alpha >= 0 and sigma >= 0, not both zero, got alpha={alpha!r}, sigma={sigma!r}")
        alpha, noise = float(alpha), float(np.hypot(alpha * self.noise, sigma))
        return self._with(lows=alpha * self.lows, highs=alpha * self.highs, noise=noise)

    def mean(self):
        """E[X], (d,)."""
        return self.weights @ (0.5 * self.lows + 0.5 * self.highs)

    def cov(self):
        """Cov[X], (d, d)."""
        centred = 0.5 * self.lows + 0.5 * self.highs - self.mean()  # (K, d)
        within = self.weights @ (self.highs - self.lows) ** 2 / 12 + self.noise**2  # (d,)
        return np.diag(within) + (self.weights[:, None] * centred).T @ centred

    def sample(self, n, rng):
        """n independent draws: x (n, d) in the precision of the boxes, and their labels (n,). rng: numpy.random.Generator."""
        if int(n) != n or n < 0:
            raise ValueError(f"n must be an integer >= 0, got {n!r}")
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, as numpy.random.default_rng(seed) makes, got {rng!r}")
        rows = rng.choice(self.K, size=int(n), p=self.weights / self.weights.sum())  # (n,)
        lows, highs = self.lows[rows], self.highs[rows]  # (n, d)
        x = np.minimum(lows + (highs - lows) * rng.random((int(n), self.d)), highs)  # (n, d)
        if self.noise > 0:
            x = x + self.noise * rng.standard_normal(x.shape)
        return x.astype(self.dtype, copy=False), self.labels[rows]

    def log_prob(self, x):
        """log p(x), (...); -inf outside the boxes when there is no noise."""
        x, shape, dtype = self._flat(x)
        return self._all.log_prob(x).reshape(shape[:-1]).astype(dtype, copy=False)

    def score(self, x):
        """grad log p(x), (..., d)."""
        x, shape, dtype = self._flat(x)
        return self._all.scores(x)[1].reshape(shape).astype(dtype, copy=False)

    def log_posterior(self, x, label):
        """log p(label | x) <= 0, (...), with full relative accuracy both near 0 and far below it."""
        x, shape, dtype = self._flat(x)
        inside, outside = self._groups(label)
        logs = [np.full(len(x), -np.inf) if group is None else group.log_prob(x) for group in (inside, outside)]  # (n,) each
        if np.any(np.isneginf(logs[0]) & np.isneginf(logs[1])):
            raise ValueError(f"p(label | x) does not exist where p(x) = 0: {_OUTSIDE}")
        return -np.logaddexp(0, logs[1] - logs[0]).reshape(shape[:-1]).astype(dtype, copy=False)

    def guided_score(self, x, label, w):
        """(1 + w) grad log p(x | label) - w grad log p(x), as s_in + w (1 - p(label | x)) (s_in - s_out).

        s_in and s_out are the scores of the boxes inside and outside the class: the posterior is never subtracted from one.

        w : a number; or (W,), a sweep: x (n, d) gives (W, n, d), x (W, n, d) uses w[i] for x[i]; or an array that
        broadcasts to (..., 1), a strength for each point. Raises ValueError otherwise.
        """
        x, shape, dtype = self._flat(x)
        inside, outside = self._groups(label)
        if inside is None:
            raise ValueError(f"label {label!r} has probability zero: there is no score given it")
        w, sweep = _strengths(w, shape)
        w = w.reshape(-1, *[1] * (1 + sweep)) if isinstance(w, np.ndarray) else w  # (n, 1) or (W, 1, 1)
        log_in, into = inside.scores(x)  # (n,), (n, d)
        pull = 0.0 * into  # (n, d)
        if outside is not None and self.noise > 0:
            log_out, outof = outside.scores(x)
            pull = expit(log_out - log_in)[:, None] * (into - outof)
        out = into + w * pull  # (n, d) or (W, n, d)
        return out.reshape((len(w), *shape) if sweep else shape).astype(dtype, copy=False)

    def score_divergence(self, x):
        """div grad log p(x) = the trace of the Hessian of log p, (...)."""
        return np.trace(self.hessian(x), axis1=-2, axis2=-1)

    def hessian(self, x):
        """The Hessian of log p(x), (..., d, d); zero in the boxes when there is no noise."""
        x, shape, dtype = self._flat(x)
        return self._all.hessians(x).reshape(*shape, self.d).astype(dtype, copy=False)

    @cached_property
    def _all(self):
        return _Boxes.of(self, np.flatnonzero(self.weights > 0))

    def _groups(self, label):
        return [_Boxes.of(self, rows) if len(rows) else None for rows in self._split(label)]

    def _flat(self, x):
        dtype = np.asarray(x).dtype
        x, shape = GaussianMixture._flat(self, x)
        if not np.all(np.isfinite(x)):
            raise ValueError("x holds NaN or infinity: check the step that made it")
        return x.astype(float, copy=False), shape, dtype

    def _with(self, **changes):
        p = object.__new__(UniformMixture)  # what is checked once stays right: no second look at every noise level
        for name, value in (vars(self) | changes).items():
            if name != "_all":
                object.__setattr__(p, name, value)
        return p


_OUTSIDE = "x lies outside all boxes. Stop the run at t_min > 0, where the law has noise"


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Some boxes of a mixture in a given order, and sums over them. All arrays are (K, d, 1) unless they say otherwise."""

    lows: np.ndarray
    highs: np.ndarray
    log_weights: np.ndarray  # (K, 1)
    noise: float

    @classmethod
    def of(cls, p, rows):
        return cls(p.lows[rows, :, None], p.highs[rows, :, None], np.log(p.weights[rows])[:, None], p.noise)

    @cached_property
    def doubled_centre(self):
        # low + high and its rounding error (Knuth's two-sum), so that x - centre keeps its digits next to the centre.
        total = self.lows + self.highs
        part = total - self.lows
        return total, (self.lows - (total - part)) + (self.highs - part)

    @cached_property
    def series(self):
        """Coefficients (TERMS, K, d, 1) of I(c) in c^2, for sides with k < 1."""
        k = np.minimum((self.highs - self.lows) / (2 * self.noise), 1.0)
        nodes, moments = _moments()
        return np.tensordot(moments, np.exp(-0.5 * (k * nodes[:, None, None, None]) ** 2), 1)

    @np.errstate(all="ignore")
    def sides(self, x, order=1):
        """For points x (d, C), (K, d, C) each: log-density of every side, its derivative times noise, and, with order=2,
        of the noiseless point given x: (variance over noise^2, (mean - centre) over half width); else None."""
        from scipy.special import erfcx

        s = self.noise
        total, error = self.doubled_centre
        off = (2 * x - total) - error  # (K, d, C)
        u, k = np.abs(off) / (2 * s), (self.highs - self.lows) / (2 * s)
        b = np.maximum(x - self.highs, self.lows - x) / s  # (K, d, C)
        c = u * k
        near = (k < 1) & (c < 1)  # (K, d, C)
        values = ()
        if not near.all():
            lost, density, beyond = np.expm1(-2 * c), np.exp(-0.5 * b * b), b >= 0
            close, far = erfcx(np.abs(b) * 0.5**0.5), (1 + lost) * erfcx((u + k) * 0.5**0.5)
            tails = 0.5 * (close + np.where(beyond, -far, far))  # (K, d, C): of the noise around x, over exp(-b^2 / 2)
            mass = np.where(beyond, tails, 1 - density * tails)  # (K, d, C): of that noise in the box; outside, over exp(-b^2 / 2)
            log = np.log(mass / (2 * k * s)) - np.where(beyond, 0.5 * b * b, 0)
            edge = np.where(beyond, 1, density) / ((2 * np.pi) ** 0.5 * mass)  # (K, d, C): phi(b) over the mass
            pull = -edge * lost
            values = log, pull
            if order == 2:
                values += np.clip(1 + edge * (b - (u + k) * (1 + lost)) - pull * pull, 0.0, 1.0), (u - pull) / k
        if near.any():
            series = self._near(u, k, np.minimum(c, 1.0), order)
            values = tuple(np.where(near, new, old) for new, old in zip(series, values)) if values else series
        log, pull, *rest = values
        return log, np.copysign(pull, -off), (rest[0], np.copysign(rest[1], off)) if rest else None

    def _near(self, u, k, c, order):
        c2 = c * c
        slope_terms = [2 * j * a for j, a in enumerate(self.series)][1:]
        value, slope = _horner(self.series, c2), c * _horner(slope_terms, c2)  # I(c), I'(c)
        mean = slope / value
        log = np.log(value) - 0.5 * u * u - LOG_SQRT_2PI - np.log(self.noise)
        if order < 2:
            return log, u - k * mean
        bend = _horner([(2 * j + 1) * a for j, a in enumerate(slope_terms)], c2)  # I''(c)
        return log, u - k * mean, k * k * (bend / value - mean * mean), mean

    def chunks(self, x):
        size = max(1, NUMBERS // self.lows[..., 0].size)
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            yield part, np.ascontiguousarray(x[part].T)  # (d, C)

    def holds(self, x):
        """Whether every box contains points x (d, C), (K, C)."""
        return np.all((self.lows <= x) & (x <= self.highs), axis=1)

    def log_prob(self, x):
        """log sum_k weight_k p_k(x) (n,) for points x (n, d)."""
        out = np.empty(len(x))
        for part, y in self.chunks(x):
            if self.noise == 0:
                volumes = np.log(self.highs - self.lows).sum(1)  # (K, 1)
                logs = np.where(self.holds(y), self.log_weights - volumes, -np.inf)  # (K, C)
            else:
                logs = self.log_weights + self.sides(y)[0].sum(1)
            out[part] = _log_sum(logs)
        return out

    def scores(self, x):
        """log sum_k weight_k p_k(x) (n,) and its gradient (n, d) for points x (n, d)."""
        if self.noise == 0:
            return self._noiseless(x), np.zeros_like(x)
        logs, out = np.empty(len(x)), np.empty_like(x)
        for part, y in self.chunks(x):
            log, pull, _ = self.sides(y)
            q, logs[part] = _shares(self.log_weights + log.sum(1))  # (K, C), (C,)
            out[part] = np.einsum("kc,kdc->cd", q, pull) / self.noise
        return logs, out

    def hessians(self, x):
        """sum_k q_k (H_k + (s_k - s)(s_k - s)^T) (n, d, d), with q the posterior over boxes and s_k their scores."""
        (n, d), s = x.shape, self.noise
        out = np.zeros((n, d, d))
        if s == 0:
            self._noiseless(x)
            return out
        for part, y in self.chunks(x):
            log, pull, (spread, _) = self.sides(y, order=2)
            q, _ = _shares(self.log_weights + log.sum(1))  # (K, C)
            pull -= np.einsum("kc,kdc->dc", q, pull)
            out[part] = np.einsum("kc,kic,kjc->cij", q, pull, pull)
            out[part][:, range(d), range(d)] += np.einsum("kc,kdc->cd", q, spread - 1)
        return out / s**2

    def _noiseless(self, x):
        logs = self.log_prob(x)
        if np.any(np.isneginf(logs)):
            raise ValueError(f"there is no score where the density is zero: {_OUTSIDE}")
        return logs


def _horner(coefficients, x):
    total = coefficients[-1]
    for a in coefficients[-2::-1]:
        total = total * x + a
    return total


@lru_cache(maxsize=1)
def _moments():
    """Gauss-Legendre nodes t (m,) on (0, 1) and weight t^(2 j) / (2 j)!, (TERMS, m)."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    nodes, j = 0.5 + 0.5 * nodes, 2 * np.arange(TERMS)[:, None]
    return nodes, 0.5 * weights * nodes**j / np.array([factorial(i) for i in j[:, 0]], float)[:, None]


def _log_sum(logs):
    largest = logs.max(0)
    shift = np.where(np.isneginf(largest), 0.0, largest)
    with np.errstate(divide="ignore"):  # no box holds the point
        return shift + np.log(np.exp(logs - shift).sum(0))


def _shares(logs):
    # Every box's share q (K, C) in the sum of exp(logs), and the log of the sum.
    largest = logs.max(0)
    if np.any(np.isneginf(largest)):
        raise ValueError("x lies so far out, in units of the noise, that squares overflow: check the step that made it")
    q = np.exp(logs - largest)  # (K, C)
    total = q.sum(0)  # (C,)
    q /= total
    return q, largest + np.log(total)
