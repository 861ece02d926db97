"""The guided field of a law on a line, and the runs from noise to data along it: what the oracles of `exact` share.

Everything is computed for y = x / sqrt(alpha^2 + sigma^2) in the angle theta = atan2(sigma, alpha), where the flow is
dy/dtheta = E[-sin(theta) x_0 + cos(theta) eps | y], guided, which stays finite from noise (pi / 2) to data (0). Every
process then is the same one, run over another range of angles. All numbers are float64.
"""
from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from .uniform import UniformMixture, _Boxes

TOLERANCE = 1e-12  # of the ODE solver, per step
LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)
EDGE = 1e-9  # of the smallest interval: the noise at which the flow to a uniform law is continued by its limit
LAYER = 37.0  # further from the end of an interval, in units of the noise, nothing is felt of it
BLUR = 1e-14  # rounding of x relative to the ends of the intervals, with what a step adds
TURN = np.pi / 4  # below this angle that flow is integrated in log tan(theta)


@dataclass(frozen=True)
class _Gaussians:
    """The components of a Gaussian mixture on a line."""

    means: np.ndarray  # (K, 1)
    variances: np.ndarray  # (K, 1)
    log_weights: np.ndarray  # (K, 1)

    @classmethod
    def of(cls, p, rows):
        columns = [np.asarray(a, float).reshape(-1, 1)[rows] for a in (p.means, p.covs.variances, p.weights)]
        return cls(columns[0], columns[1], np.log(columns[2]))

    def at(self, theta, y):
        """Of every component at y (n,): log-density and score, velocity E[-sin x_0 + cos eps | y] and its derivative, (K, n) or (K, 1)."""
        alpha, sigma = np.cos(theta), np.sin(theta)
        spread = alpha**2 * self.variances + sigma**2  # (K, 1)
        offset = y - alpha * self.means  # (K, n)
        slopes = offset / -spread  # (K, n)
        turn = alpha * sigma * (1 - self.variances)  # (K, 1)
        logs = self.log_weights - 0.5 * np.log(spread) + 0.5 * offset * slopes
        return logs, slopes, -sigma * self.means - turn * slopes, turn / spread

    def landmarks(self, spans):
        """mean + span * standard deviation of every component, for spans (s,): sorted, (K s,)."""
        return np.sort((self.means + np.sqrt(self.variances) * np.asarray(spans)).ravel())

    def features(self):
        """Points around every component where means over outputs may vary fast, sorted."""
        return self.landmarks((-9.0, -4.0, -1.5, 0.0, 1.5, 4.0, 9.0))

    def clocks(self, start, stop):
        """Variables to integrate in, one after another: (start, stop, angle of the variable, its derivative, rounding of the log-slope)."""
        return [(start, stop, lambda theta: theta, lambda theta: 1.0, TOLERANCE)]


@dataclass(frozen=True)
class _Intervals:
    """The components of a uniform mixture on a line.

    Without noise the flow bends within sigma of every end of an interval, at all noise levels: it is integrated in the
    logarithm of tan(theta), down to EDGE times the smallest width, where what is left of the motion is of that size.
    """

    lows: np.ndarray  # (K, 1)
    highs: np.ndarray  # (K, 1)
    log_weights: np.ndarray  # (K, 1)
    noise: float

    @classmethod
    def of(cls, p, rows):
        return cls(p.lows[rows], p.highs[rows], np.log(p.weights[rows])[:, None], p.noise)

    @property
    def means(self):
        """What a mesh must resolve: the ends of the intervals, (2 K, 1)."""
        return np.concatenate([self.lows, self.highs])

    @property
    def variances(self):
        return np.full_like(self.means, self.noise**2)

    def reach(self, members):
        """Both ends of the class, floats."""
        return self.lows[:members].min(), self.highs[:members].max()

    @property
    def last(self):
        """tan(theta) where the integration ends."""
        return EDGE * (self.highs - self.lows).min()

    def at(self, theta, y):
        """As `_Gaussians.at`."""
        alpha, sigma = np.cos(theta), np.sin(theta)
        spread = float(alpha**2 * self.noise**2 + sigma**2)
        boxes = _Boxes(alpha * self.lows[..., None], alpha * self.highs[..., None], self.log_weights, spread**0.5)
        log, pull, (variance, place) = (a if isinstance(a, tuple) else a[:, 0] for a in boxes.sides(y[None], order=2))
        mean = 0.5 * (self.lows + self.highs) + 0.5 * (self.highs - self.lows) * place[:, 0]  # (K, n)
        gain = variance[:, 0] / alpha  # (K, n): d mean / dy
        turn = alpha * sigma * (1 - self.noise**2) / spread
        return self.log_weights + log, pull / spread**0.5, (y - alpha * mean) * turn - sigma * mean, turn - (alpha * turn + sigma) * gain

    def landmarks(self, spans):
        """Centre and ends (spans of one and more) of every interval, and span * noise outwards: sorted, (K s,)."""
        spans = np.asarray(spans)
        points = 0.5 * (self.lows + self.highs) + 0.5 * (self.highs - self.lows) * np.clip(spans, -1, 1)  # (K, s)
        return np.sort((points + self.noise * spans).ravel())

    def features(self):
        """Points in and around every interval where means over outputs may vary fast, sorted."""
        return self.landmarks((-9.0, -4.0, -1.5, -1.0, 0.0, 1.0, 1.5, 4.0, 9.0) if self.noise > 0 else (-1.0, 0.0, 1.0))

    def clocks(self, start, stop):
        """As `_Gaussians.clocks`."""
        high, low = max(start, stop), min(start, stop)
        turn = 0.0 if self.noise > 0 else TURN
        parts = [(max(high, turn), max(low, turn), lambda theta: theta, lambda theta: 1.0, TOLERANCE)]
        if low < turn:
            ends = [np.log(max(np.tan(theta), self.last)) for theta in (min(high, turn), low)]
            cuts = np.linspace(*ends, 1 + int(np.ceil((ends[0] - ends[1]) / 2)))
            for begin, end in zip(cuts[:-1], cuts[1:]):
                # Near an end, the slope follows (x - end) / sigma, where x is rounded: do not ask for more digits than there are.
                rounding = BLUR * np.abs(self.means).max() / np.exp(end)
                parts.append((begin, end, lambda s: np.arctan(np.exp(s)), lambda s: 0.5 / np.cosh(s), max(TOLERANCE, rounding)))
        return parts if start > stop else [(b, a, *rest) for a, b, *rest in reversed(parts)]

    def settled(self, x, members):
        """Where points x (n,) at the end of the integration go in the noiseless limit, and the log of the derivative, (n,) each.

        Unguided, the flow keeps the probability of the class to the left. Next to an end e of an interval, where its
        density steps from left to right, that is tau (right psi(z) - left psi(-z)), z = (x - e) / tau, psi' = Phi.
        """
        e, left, right = self._steps(x, members)
        level, log_rate = _level((x - e) / self.last, left, right)
        side = _side(level, left, right)
        return e + self.last * level / side, log_rate - np.log(side)

    def unsettled(self, x, members):
        """The inverse of `settled`, (n,) each; the log of the derivative is -inf outside the class.

        From the ends of the class on, which no start reaches, any point does: the centre of an interval.
        """
        low, high = self.reach(members)
        gone = (x <= low) | (x >= high)
        x = np.where(gone, 0.5 * (self.lows[0] + self.highs[0]), x)
        e, left, right = self._steps(x, members)
        z = (x - e) / self.last  # (n,)
        outside = np.where(z < 0, left, right) * np.abs(z) == 0
        side, target = _side(z, left, right), np.where(outside, 0.0, z)
        low, high = np.full(x.shape, -LAYER), np.full(x.shape, LAYER)
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = _level(middle, left, right)[0] < side * target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        far = np.abs(target) > LAYER
        log_rate = np.where(far, 0.0, np.log(side) - _level(low, left, right)[1])
        return np.where(far, x, e + self.last * low), np.where(gone | (outside & (z != 0)), -np.inf, log_rate)

    def _steps(self, x, members):
        # The nearest end of an interval of the class, and the densities on its two sides, (n,) each.
        lows, highs, weights = self.lows[:members], self.highs[:members], np.exp(self.log_weights[:members])
        ends = np.unique(np.concatenate([lows, highs]))  # (E,)
        middles = np.concatenate([[-np.inf], 0.5 * (ends[1:] + ends[:-1]), [np.inf]])
        density = (weights / (highs - lows) * ((lows < middles) & (middles < highs))).sum(0)  # (E + 1,)
        nearest = np.searchsorted(middles[1:-1], x)  # (n,)
        return ends[nearest], density[nearest], density[nearest + 1]


def _level(z, left, right):
    # right psi(z) - left psi(-z), with psi' = Phi, and the log of its derivative, (n,) each.
    from scipy.special import log_ndtr, ndtr

    psi = lambda z: np.where(z > LAYER, z, z * ndtr(z) + np.exp(-0.5 * z * z - LOG_SQRT_2PI))
    inner = np.clip(z, -LAYER, LAYER)
    with np.errstate(divide="ignore"):
        log_rate = np.logaddexp(np.log(right) + log_ndtr(inner), np.log(left) + log_ndtr(-inner))
    return right * psi(z) - left * psi(-z), log_rate


def _side(level, left, right):
    # The density on the side of an end where a level lies.
    return np.where((left == 0) | ((level > 0) & (right > 0)), right, left)


@dataclass(frozen=True)
class _Line:
    """The components of a 1-D mixture, those of the guided class first."""

    parts: _Gaussians | _Intervals
    members: int

    @classmethod
    def of(cls, p, label):
        inside = p.given(label)
        if p.d != 1:
            raise ValueError(f"p must be one-dimensional here, got d = {p.d}: use exact.push, log_density, entropy or expect")
        order = np.argsort(p.labels != label, kind="stable")
        order = order[p.weights[order] > 0]
        parts = (_Intervals if isinstance(p, UniformMixture) else _Gaussians).of(p, order)
        return cls(parts, int((inside.weights > 0).sum()))

    def velocity(self, theta, y, w):
        """The guided dy/dtheta and its derivative in y, (n,) each, at one angle for y (n,)."""
        logs, slopes, values, gains = self.parts.at(theta, y)
        v, dv = _moved(*(a[: self.members] for a in (logs, slopes, values, gains)))
        if w == 0 or self.members == len(logs):
            return v, dv
        v_all, dv_all = _moved(logs, slopes, values, gains)
        return v + w * (v - v_all), dv + w * (dv - dv_all)

    def potential(self, theta, y, w):
        """(1 + w) log p(y | label) - w log p(y) at noise level theta, up to a constant, (n,)."""
        logs = self.parts.at(theta, y)[0]
        inside = _log_sum(logs[: self.members])
        if w == 0 or self.members == len(logs):
            return inside
        return inside + w * (inside - _log_sum(logs))

    def reweighted(self, theta, y, w):
        """log p(y) + w log p(label | y) up to a constant, log p(label | y), and its derivative, (n,) each."""
        logs, slopes, *_ = self.parts.at(theta, y)
        every, inside = _log_sum(logs), _log_sum(logs[: self.members])
        gap = _average(logs[: self.members], slopes[: self.members]) - _average(logs, slopes)
        return every + w * (inside - every), inside - every, gap


def _posterior(logs):
    q = np.exp(np.maximum(logs - logs.max(0), -700.0))  # (K, n)
    return q / q.sum(0)


def _average(logs, values):
    return np.einsum("kn,kn->n", _posterior(logs), values)


def _moved(logs, slopes, values, gains):
    # E[v_k | y] and its derivative E[v_k' | y] + Cov(v_k, s_k | y), over components k with scores s_k.
    q = _posterior(logs)
    v, s = np.einsum("kn,kn->n", q, values), np.einsum("kn,kn->n", q, slopes)
    return v, (gains * q).sum(0) + np.einsum("kn,kn,kn->n", q, values - v, slopes - s)


def _log_sum(logs):
    largest = logs.max(0)
    return largest + np.log(np.exp(np.maximum(logs - largest, -700.0)).sum(0))


# --- one run from noise to data -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """The angles that a run covers, cut where w jumps, and the units of its two ends."""

    legs: tuple  # (start, stop, w(theta)) each, from noise to data
    start_scale: float  # y = start_scale * xi at the noisy end
    end_scale: float  # x = end_scale * y at the data end

    @classmethod
    def of(cls, w, T, process, t_min, initial, breaks):
        T = process.default_T if T is None else T
        if not 0 <= t_min < T < np.inf:
            raise ValueError(f"a run needs 0 <= t_min < T, got t_min={t_min!r}, T={T!r}")
        if initial not in ("normal", "class"):
            raise ValueError(f'initial must be "normal" (pure noise) or "class" (the noised class law), got {initial!r}')
        if not callable(w) and not (np.ndim(w) == 0 and -1 <= float(w) < np.inf):
            raise ValueError(f"w must be a number >= -1 or a function of t, got {w!r}")
        noisy, clean = float(process.angle(T)), float(process.angle(t_min))
        radius = lambda t: float(np.hypot(process.alpha(t), process.sigma(t)))
        # Noise of a variance-preserving process is N(0, 1); of VE it is N(0, sigma(T)^2).
        scale = max(1.0, float(process.sigma(T))) / radius(T) if initial == "normal" else 1.0
        legs = ((np.pi / 2, noisy, lambda theta: 0.0),) if initial == "class" else ()
        strength = (lambda theta: _strength(w(float(process.time(theta))))) if callable(w) else (lambda theta: float(w))
        if callable(w):
            given = [float(process.angle(t)) for t in breaks if t_min < t < T]
            cuts = np.unique([noisy, *given, *_jumps(strength, clean, noisy), clean])[::-1]
        else:
            cuts = np.array([noisy, clean])
        for start, stop in zip(cuts[:-1], cuts[1:]):
            legs += ((float(start), float(stop), _inside(strength, start, stop)),)
        return cls(legs, scale, radius(t_min))


def _strength(value):
    value = float(value)
    if not -1 <= value < np.inf:
        raise ValueError(f"w(t) must return numbers >= -1, got {value!r}")
    return value


def _inside(strength, start, stop):
    # At a cut, w takes the value of this leg and not of the next one.
    margin = 1e-9 * (start - stop)
    return lambda theta: strength(min(max(theta, stop + margin), start - margin))


def _jumps(strength, low, high, samples=1000):
    """Angles where a function of the angle jumps: intervals whose change survives 50 halvings."""
    grid = np.linspace(low, high, samples + 1)
    values = np.array([strength(theta) for theta in grid])
    scale, found = np.ptp(values), []
    for i in np.flatnonzero(np.abs(np.diff(values)) > 1e-3 * scale):
        a, b, va, vb = grid[i], grid[i + 1], values[i], values[i + 1]
        for _ in range(50):
            middle = 0.5 * (a + b)
            value = strength(middle)
            if abs(value - va) > abs(vb - value):
                b, vb = middle, value
            else:
                a, va = middle, value
            if abs(vb - va) < 1e-4 * scale:
                break
        else:
            found.append(0.5 * (a + b))
    return found


def _solve(rate, state, start, stop, rtol, most=None, atol=None):
    from scipy.integrate import solve_ivp

    if start == stop:
        return state
    calls = count()

    def counted(theta, state):
        if next(calls) == most:
            raise RuntimeError(f"the guided flow needs more than {most} evaluations: w is too strong, or T too late, for this precision")
        return rate(theta, state)

    solution = solve_ivp(counted, (start, stop), state, method="DOP853", t_eval=(stop,), rtol=rtol, atol=rtol if atol is None else atol)
    if not solution.success or not np.all(np.isfinite(solution.y)):
        raise RuntimeError(f"the guided flow could not be solved from angle {start:.6g} to {stop:.6g}: {solution.message}")
    return solution.y[:, -1]


def _refuse_noiseless(p, t_min):
    if isinstance(p, UniformMixture) and p.noise == 0 and t_min == 0:
        raise ValueError("a UniformMixture has no score at t = 0: take t_min > 0, FlowMap on a line, or guidance.sample for draws")
