"""Oracles: what guidance samples, computed rather than sampled.

`FlowMap` is the guided probability-flow ODE (DDIM in continuous time) on a line: its map from noise to data is
increasing, so quantiles, densities, entropies and expectations follow from the map alone. `push`, `log_density`,
`entropy` and `expect` do the same in any dimension, or in up to three where an integral is needed. `FokkerPlanck` is the
law of the guided reverse SDE (DDPM in continuous time) on a line.

Everything is computed for y = x / sqrt(alpha^2 + sigma^2) in the angle theta = atan2(sigma, alpha), where the flow is
dy/dtheta = E[-sin(theta) x_0 + cos(theta) eps | y], guided, which stays finite from noise (pi / 2) to data (0). Every
process then is the same one, run over another range of angles. All numbers are float64.

The change of variables along a flow is standard (Chen et al. 2018, Neural ODEs, theorem 1; Song et al. 2021, eq. 39);
the algorithms here are ours.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from itertools import count

import numpy as np

from .process import OU
from .uniform import UniformMixture, _Boxes

TOLERANCE = 1e-12  # of the ODE solver, per step
GOAL = 1e-9  # of a quadrature, relative to the integral of the integrand's size
LIMIT = 1e-8  # an answer less certain than this is refused
CORE = 9.0  # |xi| beyond this has probability 2e-19
FAR = 38.0  # the normal density underflows a little further out
FARTHEST = 2000.0  # no panels beyond this, even for logarithms
NODES = 16
MOST = 5000  # panels
MOST_CALLS = 20_000  # evaluations of a flow in several dimensions, where a usual run takes a few hundred
LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)
EDGE = 1e-9  # of the smallest interval: the noise at which the flow to a uniform law is continued by its limit
LAYER = 37.0  # further from the end of an interval, in units of the noise, nothing is felt of it
BLUR = 1e-14  # rounding of x relative to the ends of the intervals, with what a step adds
TURN = np.pi / 4  # below this angle that flow is integrated in log tan(theta)


# --- the guided field on a line -----------------------------------------------------------------------------------


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


# --- the guided flow on a line ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panels:
    """Gauss-Legendre nodes on panels that cover the starts xi, with the map and the log of its slope there."""

    low: np.ndarray  # (m,)
    high: np.ndarray  # (m,)
    xi: np.ndarray  # (m, NODES)
    x: np.ndarray  # (m, NODES)
    log_slope: np.ndarray  # (m, NODES)

    def joined(self, other, keep):
        return _Panels(*(np.concatenate([getattr(self, k)[keep], getattr(other, k)]) for k in self.__dataclass_fields__))


def _elementwise(name):
    """Lets a method from (n,) to (n,) take and return a number, or an array of any shape; checks its argument."""

    def wrap(method):
        @wraps(method)
        def call(self, value):
            array = np.asarray(float(value) if isinstance(value, (int, float)) else value)
            if array.dtype.kind != "f":
                raise ValueError(f"{name} must be floating point, got dtype {array.dtype}: use numpy.array([...], float)")
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{name} must be finite, got {array!r}")
            return method(self, array.ravel().astype(float)).reshape(array.shape)[()]

        return call

    return wrap


class FlowMap:
    """The guided probability-flow ODE on a line, as an increasing map from starts xi ~ N(0, 1) to outputs x.

    Parameters
    ----------
    p : `GaussianMixture` or `UniformMixture` with d = 1. Outputs of a law of boxes lie in the class; inverse is -inf or inf, and the
        density zero, from its ends on.
    label : the class to guide to.
    w : strength >= -1 of cond + w (cond - uncond), or a function of t. Jumps of w(t) are found and stepped on exactly
        unless it jumps twice within a thousandth of the range of angles; name such times in `breaks`.
    T, t_min : the run goes from time T (default: the process's own, 10 for `OU`) down to t_min.
    process : what noises the data; `OU()` unless given.
    initial : "normal", x_T = xi max(1, sigma(T)) with xi ~ N(0, 1): exactly pure noise, not the noised data;
        or "class", x_T distributed as the noised class law, exactly.
    breaks : times at which w(t) jumps.

    Numbers are right to 1e-8, relative to the size of what is averaged and of the data, or RuntimeError is raised. (Laws of boxes: the
    entropy to 1e-6; a density next to an end of a box to the digits that x has there; and where guidance collapses the map to a point, x
    rounds over many starts, so use `map` and `quantile`, not `inverse` and `cdf`.)
    All methods take and return one-dimensional float64 arrays (n,), and a function f handed to `expect` gets (n,) too: write
    flow.expect(lambda x: p.posterior(x[:, None], label)).

    Raises ValueError for a p that is not one-dimensional, an unknown label, w < -1 or times out of order.
    """

    def __init__(self, p, label, w, T=None, process=OU(), t_min=0.0, *, initial="normal", breaks=()):
        self._line = _Line.of(p, label)
        self._run = _Run.of(w, T, process, t_min, initial, breaks)
        parts = self._line.parts
        self._settles = isinstance(parts, _Intervals) and parts.noise == 0 and self._run.legs[-1][1] == 0
        self._unit = float(np.abs(parts.landmarks((-1.0, 1.0))).max()) * self._run.end_scale
        self._panels = self._landmarks = self._surveyed = None

    @_elementwise("xi")
    def map(self, xi):
        """The output x (n,) of each start xi (n,)."""
        return self._carry(xi)[0]

    @_elementwise("x")
    def inverse(self, x):
        """The start xi (n,) of each output x (n,): in far tails use scipy.special.log_ndtr(flow.inverse(x)) for log P(X < x)."""
        return self._carry(x, back=True)[0]

    @_elementwise("u")
    def quantile(self, u):
        """The u-quantile of the output, for u (n,) in (0, 1)."""
        return self.map(_normal_quantile(u))

    @_elementwise("x")
    def cdf(self, x):
        """P(X <= x) (n,) for x (n,)."""
        from scipy.special import ndtr

        return ndtr(self.inverse(x))

    @_elementwise("x")
    def log_density(self, x):
        """The log-density of the output at x (n,)."""
        xi, log_slope = self._carry(x, back=True)
        return -0.5 * xi**2 - LOG_SQRT_2PI + log_slope

    def density(self, x):
        """The density of the output at x (n,)."""
        return np.exp(self.log_density(x))

    def mean(self):
        """E[X], a float."""
        return self._integral(self._first, floor=self._unit)

    def variance(self):
        """Var[X], a float."""
        mean = self.mean()
        return self._integral(lambda panels: (panels.x - mean) ** 2 * _normal(panels.xi), floor=1e-4 * self._unit**2)

    def entropy(self):
        """The differential entropy -E[log density(X)] = log(2 pi e) / 2 + E[log F'(xi)], a float."""
        value = LOG_SQRT_2PI + 0.5 + self._integral(self._volume, floor=1.0)
        if self._settles:
            ends = self._line.parts.means[:, 0]
            size = np.abs(ends).max()
            gap = lambda x: np.maximum(np.abs(x[..., None] - ends).min(-1), self._line.parts.last)
            blur = self._integral(lambda panels: BLUR * size / gap(panels.x) * _normal(panels.xi), floor=1.0)
            if blur > 100 * LIMIT:
                raise RuntimeError(
                    f"outputs crowd at an end of an interval as close as x is rounded: the entropy {value:.6g} is only known to {blur:.1e}"
                )
        return value

    def expect(self, f, log=False):
        """E[f(X)], a float, for f: (n,) -> (n,). Jumps and narrow features of f are resolved.

        log=True says that f returns log f. That is the form for means carried by starts of vanishing probability,
        such as E[1 / p(c | X)] at small w: flow.expect(lambda x: -p.log_posterior(x[:, None], label), log=True).

        Raises RuntimeError when the integrand does not die out within |xi| < 38 (log=False), or where the components
        of p end (log=True): the mean may be infinite.
        """
        xi, x = self._survey()
        if not log:
            near = np.abs(xi) <= FAR
            sizes = np.abs(_call(f, x[near])) * _normal(xi[near])  # (n,)
            self._widen(np.abs(xi[near][sizes > 1e-14 * sizes.max()]))
            return self._integral(lambda panels: _call(f, panels.x) * _normal(panels.xi), edges=True)
        logs = self._log_integrand(f, xi, x)  # (n,)
        self._widen(np.abs(xi[logs > logs.max() - 40]))
        shift = logs.max()
        scaled = lambda panels: np.exp(np.minimum(self._log_integrand(f, panels.xi, panels.x) - shift, 300.0))
        return float(np.exp(shift + np.log(self._integral(scaled, edges=True))))

    def _log_integrand(self, f, xi, x):
        values = _call(f, x)
        if np.any(np.isnan(values) | (values == np.inf)):
            raise RuntimeError("log f is infinite or NaN at an output: the mean does not exist or f is not defined there")
        return values - 0.5 * xi**2 - LOG_SQRT_2PI

    def _carry(self, start, back=False):
        """Through the whole run: ends (n,) and the log of the derivative end / start (n,)."""
        legs, before, after = self._run.legs, self._run.start_scale, self._run.end_scale
        if back:
            legs = tuple((stop, start_, w) for start_, stop, w in reversed(legs))
            before, after = 1 / after, 1 / before
        ends, line, bent = [], self._line, 0.0
        start, given = before * start, before * start
        if back and self._settles:
            start, bent = line.parts.unsettled(start, line.members)
        for part in np.array_split(start, max(1, -(-len(start) // 4096))):
            n, state = len(part), np.concatenate([part, np.zeros(len(part))])  # (2 n,)
            for first, last, w in legs if n else ():
                for begin, end, angle, speed, rounding in line.parts.clocks(first, last):
                    rate = lambda s, state: speed(s) * np.concatenate(line.velocity(angle(s), state[:n], w(angle(s))))
                    state = _solve(rate, state, begin, end, TOLERANCE, 10 * MOST_CALLS, np.repeat([TOLERANCE, rounding], n))
            ends.append(state.reshape(2, n))
        x, log_slope = np.concatenate(ends, axis=1)  # (n,) each
        if not back and self._settles:
            x, bent = line.parts.settled(x, line.members)
        if back and self._settles:
            low, high = line.parts.reach(line.members)
            x = np.where(given <= low, -np.inf, np.where(given >= high, np.inf, x))
        return after * x, log_slope + bent + np.log(before * after)

    def _marks(self):
        """Starts that end at and around the components: features narrower than the gap between nodes are looked for there."""
        if self._landmarks is None:
            points = self._line.parts.features() * self._run.end_scale
            if self._settles:
                # A map onto intervals may be flat where guidance crowds it: read its inverse off the map.
                grid = np.linspace(-FAR, FAR, 381)
                marks = np.interp(points, self.map(grid), grid)
                self._landmarks = marks[np.abs(marks) < FAR]
            else:
                self._landmarks = self.inverse(points)
        return self._landmarks

    def _survey(self):
        """Starts xi (n,) and outputs x (n,) from one end to the other, to see how far out a mean must go.

        1 / p(c | x) p(x | c) is proportional to p(x): nothing of such means lies beyond the components.
        """
        if self._surveyed is None:
            marks = self._marks()
            span = np.clip(np.abs(marks).max(initial=FAR), FAR, FARTHEST)
            grid = np.concatenate([np.linspace(0.0, CORE, 13), np.geomspace(CORE, span, 12 + int(8 * np.log(span / CORE)))[1:]])
            xi = np.unique(np.concatenate([-grid, grid, marks[np.abs(marks) < span]]))  # (n,)
            self._surveyed = xi, self.map(xi)
        return self._surveyed

    def _new_panels(self, low, high):
        nodes, _, _ = _legendre()
        xi = low[:, None] + 0.5 * (high - low)[:, None] * (1 + nodes)  # (m, NODES)
        x, log_slope = self._carry(xi.ravel())
        return _Panels(low, high, xi, x.reshape(xi.shape), log_slope.reshape(xi.shape))

    def _cover(self):
        if self._panels is None:
            marks = self._marks()
            edges = _thinned(np.concatenate([np.linspace(-CORE, CORE, 19), marks[np.abs(marks) < CORE]]))
            self._panels = self._new_panels(edges[:-1], edges[1:])
            self._refine([self._first, self._second, self._volume], [self._unit, 1e-4 * self._unit**2, 1.0])

    def _first(self, panels):
        return panels.x * _normal(panels.xi)

    def _second(self, panels):
        return panels.x**2 * _normal(panels.xi)

    def _volume(self, panels):
        return panels.log_slope * _normal(panels.xi)

    def _widen(self, needed):
        """Extends the panels so that they cover |xi| in `needed`, with a margin."""
        self._cover()
        edge, reach = self._panels.high.max(), 1.15 * needed.max(initial=0.0)
        if reach <= edge:
            return
        for sign in (-1, 1):
            marks = sign * self._marks()
            edges = np.linspace(edge, reach, int(np.ceil((reach - edge) / 1.5)) + 1)
            edges = np.sort(sign * _thinned(np.concatenate([edges, marks[(marks > edge) & (marks < reach)]])))
            self._panels = self._panels.joined(self._new_panels(edges[:-1], edges[1:]), slice(None))

    def _integral(self, integrand, floor=0.0, edges=False):
        """The integral over xi of integrand(panels) (m, NODES), in panels cut until it is resolved."""
        self._cover()
        (sizes,), (error,), (scale,) = self._refine([integrand], [floor])
        if error > LIMIT * scale:
            raise RuntimeError(f"this mean is only known to {error / scale:.1e} of its size: the map or f is too steep")
        panels = self._panels
        ends = sizes[[np.argmin(panels.low), np.argmax(panels.high)]]
        if edges and ends.max() > LIMIT * scale:
            raise RuntimeError("the integrand does not die out in the tails: the mean may be infinite; try expect(log_f, log=True)")
        return float((0.5 * (panels.high - panels.low) * (integrand(panels) @ _legendre()[1])).sum())

    def _refine(self, integrands, floors):
        """Cuts panels until all integrands are resolved: the integral of each one's size by panel, its error, its whole size."""
        _, weights, transform = _legendre()
        last, stalled = np.inf, 0
        while True:
            panels = self._panels
            half = 0.5 * (panels.high - panels.low)  # (m,)
            values = np.stack([integrand(panels) for integrand in integrands])  # (c, m, NODES)
            if not np.all(np.isfinite(values)):
                raise RuntimeError("f is not finite at some outputs: if it overflows, pass its logarithm, expect(log_f, log=True)")
            sizes = half * (np.abs(values) @ weights)  # (c, m)
            scale = np.maximum(sizes.sum(1), floors)  # (c,)
            coefficients = np.abs(values @ transform)  # (c, m, NODES)
            tail, head = coefficients[..., -2:].max(-1), coefficients.max(-1)  # (c, m)
            # The Gauss rule is exact to twice the degree: once the coefficients decay, its error is like tail^2 / head.
            errors = half * tail * np.minimum(1.0, 1e3 * tail / np.maximum(head, 1e-300))  # (c, m)
            bad = np.any(errors > (GOAL / len(half)) * scale[:, None], axis=0)  # (m,)
            worst = (errors.sum(1) / scale).max()
            # Cutting does not help against the rounding of the solver: give up when the error stops falling.
            stalled = stalled + 1 if worst > 0.5 * last else 0
            if worst <= GOAL or stalled == 3 or len(half) > MOST or (panels.high - panels.low)[bad].min() < 1e-13:
                return sizes, errors.sum(1), scale
            last = worst
            # A run costs much the same for any number of starts below a thousand: cut as finely as that allows.
            parts = int(np.clip(1000 // (NODES * bad.sum()), 3, 16))
            cuts = np.linspace(panels.low[bad], panels.high[bad], parts + 1, axis=1)  # (b, parts + 1)
            self._panels = panels.joined(self._new_panels(cuts[:, :-1].ravel(), cuts[:, 1:].ravel()), ~bad)


def _thinned(edges, gap=0.02):
    # Sorted, without points that crowd closer than `gap`, both ends kept.
    edges = np.unique(edges)
    kept = [edges[0]]
    for edge in edges[1:-1]:
        if edge - kept[-1] > gap and edges[-1] - edge > gap:
            kept.append(edge)
    return np.array([*kept, edges[-1]])


def _legendre(n=NODES):
    """Nodes (n,), weights (n,) on [-1, 1] and the matrix (n, n) from values at the nodes to Legendre coefficients."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    basis = np.polynomial.legendre.legvander(nodes, n - 1)  # (n, n)
    return nodes, weights, weights[:, None] * basis * (np.arange(n) + 0.5)


def _normal(xi):
    return np.exp(-0.5 * xi**2 - LOG_SQRT_2PI)


def _normal_quantile(u):
    from scipy.special import ndtri

    if not np.all((0 < u) & (u < 1)):
        raise ValueError(f"u must be in (0, 1), got {u!r}")
    return ndtri(u)


def _call(f, x):
    values = np.asarray(f(x.ravel()), float)
    if values.shape != (x.size,):
        raise ValueError(f"f must return one number for each of its {x.size} arguments (n,), got shape {values.shape}")
    return values.reshape(x.shape)


# --- the guided flow in any dimension -----------------------------------------------------------------------------


def push(p, label, w, xi, T=None, process=OU(), t_min=0.0, *, initial="normal", breaks=()):
    """Carries starts through the guided probability-flow ODE, with the exact change of volume.

    Parameters
    ----------
    p : `GaussianMixture`, any d, or `UniformMixture` with t_min > 0.  label, w, T, process, t_min, breaks : as in `FlowMap`.
    xi : (n, d) float. The run starts at x_T = xi max(1, sigma(T)).
    initial : "normal"; "class" needs d = 1 (`FlowMap`).

    Returns
    -------
    x (n, d), and log |det dx / dxi| (n,): with xi ~ N(0, I), log density(x) = log N(xi; 0, I) - log_det. float64.

    Raises ValueError for bad arguments and RuntimeError if the solver fails.
    """
    return _push(p, label, w, xi, T, process, t_min, initial, breaks, back=False)


def log_density(p, label, w, x, T=None, process=OU(), t_min=0.0, *, breaks=()):
    """The log-density (n,) of the guided flow's output at x (n, d), any d, started from pure noise. Arguments as in `push`."""
    xi, log_det = _push(p, label, w, x, T, process, t_min, "normal", breaks, back=True)
    return -0.5 * (xi**2).sum(1) - p.d * LOG_SQRT_2PI + log_det


def entropy(p, label, w, T=None, process=OU(), t_min=0.0, *, breaks=(), tolerance=1e-7):
    """The differential entropy of the guided flow's output, a float, for d <= 3, to `tolerance`. Arguments as in `push`.

    log(2 pi e) d / 2 + E[log |det dx / dxi|] by a tensor Gauss-Hermite rule, refined until the answer stays.
    Raises RuntimeError if it does not settle, and ValueError for d > 3.
    """
    volume = _settled(p, label, w, lambda x, log_det: log_det, T, process, t_min, breaks, tolerance)
    return p.d * (LOG_SQRT_2PI + 0.5) + float(volume)


def expect(p, label, w, f, T=None, process=OU(), t_min=0.0, *, breaks=(), tolerance=1e-7):
    """E[f(X)] over the guided flow's output for d <= 3, to `tolerance`, for a smooth f: (n, d) -> (n,) or (n, m).

    Returns a float, or (m,). Arguments as in `push`, quadrature and errors as in `entropy`.
    """
    value = _settled(p, label, w, lambda x, log_det: np.asarray(f(x), float), T, process, t_min, breaks, tolerance)
    return float(value) if np.ndim(value) == 0 else value


def _push(p, label, w, start, T, process, t_min, initial, breaks, back):
    start = np.asarray(start)
    if start.dtype.kind != "f" or start.ndim != 2 or start.shape[1] != p.d or not np.all(np.isfinite(start)):
        name = "x" if back else "xi"
        raise ValueError(f"{name} must be a finite float array (n, {p.d}), got dtype {start.dtype} and shape {start.shape}")
    if initial == "class" and p.d > 1:
        raise ValueError('initial="class" needs d = 1: with several dimensions start from "normal"')
    _refuse_noiseless(p, t_min)
    run, inside, (n, d) = _Run.of(w, T, process, t_min, initial, breaks), p.given(label), start.shape
    before, after = (1 / run.end_scale, 1 / run.start_scale) if back else (run.start_scale, run.end_scale)
    legs = [(stop, first, w_of) for first, stop, w_of in reversed(run.legs)] if back else run.legs
    state = np.append(before * start.astype(float), np.zeros((n, 1)), axis=1).ravel()  # (n (d + 1),)
    for first, last, w_of in legs:
        rate = lambda theta, s: _velocity(p, inside, label, w_of(theta), theta, s.reshape(n, d + 1))
        state = _solve(rate, state, first, last, TOLERANCE, MOST_CALLS) if n else state
    state = state.reshape(n, d + 1)
    return after * state[:, :d], state[:, d] + d * np.log(before * after)


def _refuse_noiseless(p, t_min):
    if isinstance(p, UniformMixture) and p.noise == 0 and t_min == 0:
        raise ValueError("a UniformMixture has no score at t = 0: take t_min > 0, FlowMap on a line, or guidance.sample for draws")


def _velocity(p, inside, label, w, theta, state):
    y = np.ascontiguousarray(state[:, :-1])  # (n, d)
    alpha, sigma = max(np.cos(theta), 1e-12), np.sin(theta)
    law, part = p.noised(alpha, sigma), inside.noised(alpha, sigma)
    divergence = part.score_divergence(y)  # (n,)
    if w:
        divergence = divergence + w * (divergence - law.score_divergence(y))
    v = y + law.guided_score(y, label, w)  # (n, d)
    return -sigma / alpha * np.append(v, (p.d + divergence)[:, None], axis=1).ravel()


def _settled(p, label, w, f, T, process, t_min, breaks, tolerance):
    if p.d > 3:
        raise ValueError(f"a quadrature over starts needs d <= 3, got d = {p.d}: average over samples instead")
    sizes = {1: (40, 60, 90, 135, 200), 2: (24, 36, 54, 81), 3: (12, 18, 27)}[p.d]
    last = None
    for size in sizes:
        nodes, weights = np.polynomial.hermite_e.hermegauss(size)
        xi = np.stack([a.ravel() for a in np.meshgrid(*[nodes] * p.d, indexing="ij")], axis=1)  # (size^d, d)
        share = np.prod(np.meshgrid(*[weights / weights.sum()] * p.d, indexing="ij"), axis=0).ravel()  # (size^d,)
        counts = share > 1e-17
        x, log_det = push(p, label, w, xi[counts], T, process, t_min, breaks=breaks)
        values = f(x, log_det)
        value = share[counts] @ values
        if last is not None and np.all(np.abs(value - last) <= tolerance * np.maximum(1.0, share[counts] @ np.abs(values))):
            return value
        change, last = np.inf if last is None else np.abs(value - last).max(), value
    raise RuntimeError(f"the quadrature over starts does not settle: {size} nodes an axis still change it by {change:.1e}")


# --- the guided reverse SDE on a line -----------------------------------------------------------------------------


class FokkerPlanck:
    """The law of the guided reverse SDE on a line, dx = (-f x + g^2 s_w) dtau + g dB run from T down to t_min.

    Scharfetter-Gummel finite volumes on a mesh fitted to the components (fluxes from differences of the exact log-densities, so that
    narrow components do not make them stiff), TR-BDF2 in time with steps that shrink towards the data, and Richardson extrapolation
    over three refinements of both.

    Parameters, and arrays taken and returned, as in `FlowMap`; a `UniformMixture` needs t_min > 0 and initial="normal". `cells` is
    the size of the coarsest of the three meshes (default: from the narrowest component) and `steps` its number of time steps.

    error : after the first use, the change that the last refinement made in the mean, the standard deviation and the
        entropy, relative to the standard deviation: an upper estimate, usually ten times too large.

    Raises RuntimeError when that change exceeds 1e-3 or when the law leaks out of the mesh.
    """

    def __init__(self, p, label, w, T=None, process=OU(), t_min=0.0, *, initial="normal", breaks=(), cells=None, steps=300):
        _refuse_noiseless(p, t_min)
        if isinstance(p, UniformMixture) and initial != "normal":
            raise ValueError('a UniformMixture needs initial="normal" here')
        self._line = _Line.of(p, label)
        self._run = _Run.of(w, T, process, t_min, initial, breaks)
        self._flow = FlowMap(p, label, w, T, process, t_min, initial=initial, breaks=breaks)
        self._cells, self._steps, self._levels = cells, steps, None

    def mean(self):
        """E[X], a float."""
        return self.expect(lambda x: x)

    def variance(self):
        """Var[X], a float."""
        mean = self.mean()
        return self.expect(lambda x: (x - mean) ** 2)

    def entropy(self):
        """The differential entropy, a float."""
        return _richardson([_cell_entropy(edges, mass) for edges, mass in self._solved()])

    def expect(self, f, log=False):
        """E[f(X)], a float, for a smooth f: (n,) -> (n,); log=True says that f returns log f, as in `FlowMap.expect`.

        Raises RuntimeError when the three meshes disagree: f jumps (for probabilities use `cdf`), or its mean is
        carried by tails that no mesh resolves.
        """
        values, sizes = [], []
        for edges, mass in self._solved():
            centre = 0.5 * (edges[1:] + edges[:-1])  # (N,)
            with np.errstate(over="ignore"):
                terms = np.exp(_call(f, centre) + np.log(np.maximum(mass, 1e-300))) if log else mass * _call(f, centre)  # (N,)
            values.append(float(terms.sum()))
            sizes.append(np.abs(terms).sum())
        with np.errstate(invalid="ignore"):
            change = np.abs(_richardson(values) - _richardson(values[:2]))
        if not change <= 1e-3 * max(sizes) < np.inf:
            raise RuntimeError(
                f"this mean is only known to {change:.1e}: f jumps (use cdf for probabilities) or is carried by the far tails "
                "(for E[1 / p(label | X)] use inverse_confidence)"
            )
        return _richardson(values)

    def inverse_confidence(self):
        """E[1 / p(label | X)], a float, also where it is carried by tails far beyond any mesh.

        Ours: 1 / p_t(label | X_t) is a martingale at w = 0 (Li & Jiao 2505.01382, in substance). Changing the measure by it
        turns the mean into the mass left of an equation with score  grad log p_t + w grad l,  l = log p_t(label | .),
        killed at the rate g^2 w |grad l|^2, and started from the law at T divided by p_T(label | .). Nothing in it is heavy-tailed.
        """
        masses = [self._evolve(edges, self._steps * 2**i, killed=True).sum() for i, edges in enumerate(self._mesh())]
        change = abs(_richardson(masses) - _richardson(masses[:2]))
        if not change < 1e-3 * masses[-1]:
            raise RuntimeError(f"E[1 / p] still changes by {change:.1e}: raise cells or steps")
        return float(_richardson(masses))

    @_elementwise("x")
    def cdf(self, x):
        """P(X <= x) (n,) for x (n,)."""
        edges, spline = self._spline()
        return np.clip(spline(np.clip(x, edges[0], edges[-1])), 0.0, 1.0)

    @_elementwise("x")
    def density(self, x):
        """The density at x (n,); zero outside the mesh."""
        edges, spline = self._spline()
        inside = (edges[0] <= x) & (x <= edges[-1])
        return np.where(inside, np.maximum(spline(np.where(inside, x, edges[0]), 1), 0.0), 0.0)

    @_elementwise("u")
    def quantile(self, u):
        """The u-quantile (n,) for u (n,) in (0, 1)."""
        _normal_quantile(u)
        edges, spline = self._spline()
        low, high = np.full(u.shape, edges[0]), np.full(u.shape, edges[-1])
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = spline(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)

    def _spline(self):
        from scipy.interpolate import make_interp_spline

        levels = self._solved()
        edges = levels[0][0]
        cdfs = [np.cumsum(mass)[2**i - 1 :: 2**i] for i, (_, mass) in enumerate(levels)]
        return edges, make_interp_spline(edges, np.concatenate([[0.0], _richardson(cdfs)]), k=5)

    def _solved(self):
        """(edges, mass of each cell) in x on the three meshes."""
        if self._levels is None:
            mesh = self._mesh()
            self._levels = [(e * self._run.end_scale, self._evolve(e, self._steps * 2**i)) for i, e in enumerate(mesh)]
            summaries = np.array([_summary(*level) for level in self._levels])  # (3, 3): mean, sd, entropy
            change = np.abs(_richardson(summaries) - _richardson(summaries[:2]))
            self.error = float(max(change[0] / summaries[-1, 1], change[1] / summaries[-1, 1], change[2]))
            if not self.error < 1e-3:
                raise RuntimeError(f"the Fokker-Planck solution still changes by {self.error:.1e}: raise cells or steps")
        return self._levels

    def _mesh(self):
        """Edges in y of three nested meshes: cells follow the width of the nearest narrow feature."""
        line, end = self._line, min(leg[1] for leg in self._run.legs)
        marks = np.concatenate([self._flow.map(np.array([-8.0, 8.0])) / self._run.end_scale, line.parts.landmarks((-9.0, 9.0))[[0, -1]]])
        low, high = min(marks.min(), -CORE) - 1.0, max(marks.max(), CORE) + 1.0
        y = np.linspace(low, high, 20_001)
        strength = self._run.legs[-1][2](end)
        curvature = np.abs(np.gradient(np.gradient(line.potential(end, y, strength), y), y))
        narrowest = np.sqrt(np.cos(end) ** 2 * line.parts.variances + np.sin(end) ** 2)  # (K, 1)
        near = np.abs(y - np.cos(end) * line.parts.means) < 8 * narrowest  # (K, n)
        width = np.minimum(1.0, np.where(near, narrowest, np.inf).min(0))  # (n,)
        width = np.minimum(width, np.maximum(1 / np.sqrt(curvature + 1e-9), 0.2 * width))
        allowed = np.arange(len(y)) * (y[1] - y[0]) / 6  # (n,)
        for order in (slice(None), slice(None, None, -1)):
            # Widths grow by at most a sixth of the distance, so that neighbouring cells are alike.
            width[order] = np.minimum.accumulate(width[order] - allowed) + allowed
        count = np.concatenate([[0.0], np.cumsum(2 / (width[1:] + width[:-1]))]) * (y[1] - y[0])
        cells = self._cells or int(np.clip(9 * count[-1], 400, 1200))
        return [np.interp(np.linspace(0, count[-1], cells * 2**i + 1), count, y) for i in range(3)]

    def _evolve(self, edges, steps, killed=False):
        """The masses of the cells at the data end; killed=True is the equation of `inverse_confidence`."""
        width = np.diff(edges)  # (N,)
        centre = 0.5 * (edges[1:] + edges[:-1])  # (N,)
        mass = self._start(edges)
        runs = [leg for leg in self._run.legs if leg[0] < np.pi / 2]
        clocks = [(-np.log(np.cos(a)), -np.log(np.cos(b)), w) for a, b, w in runs]
        total = np.sqrt(clocks[0][0]) - np.sqrt(clocks[-1][1])
        gamma, generator = 2 - np.sqrt(2), self._killed_generator if killed else self._generator
        if killed:
            mass = mass * np.exp(-self._line.reweighted(runs[0][0], centre, 0.0)[1])
        for start, stop, w in clocks:
            share = (np.sqrt(start) - np.sqrt(stop)) / total
            # Equal steps in sqrt(clock) are equal steps in sigma near the data and short steps in time near the noise.
            times = np.linspace(np.sqrt(start), np.sqrt(stop), max(8, int(np.ceil(share * steps))) + 1) ** 2
            now = generator(centre, width, times[0], w)
            for t, t_next in zip(times[:-1], times[1:]):
                step = t - t_next
                middle = generator(centre, width, t - gamma * step, w)
                after = generator(centre, width, t_next, w)
                stage = _implicit(middle, 0.5 * gamma * step, mass + 0.5 * gamma * step * _apply(now, mass))
                right = (stage - (1 - gamma) ** 2 * mass) / (gamma * (2 - gamma))
                mass, now = _implicit(after, 0.5 * gamma * step, right), after
        if not killed and (not abs(mass.sum() - 1) < 1e-6 or max(abs(mass[0]), abs(mass[-1])) > 1e-10):
            raise RuntimeError(f"the law leaks out of the mesh [{edges[0]:.3g}, {edges[-1]:.3g}]: its total is {mass.sum():.9f}")
        return mass

    def _start(self, edges):
        from scipy.special import ndtr

        first = next(leg for leg in self._run.legs if leg[0] < np.pi / 2)[0]
        if len(self._run.legs) == 1 or self._run.legs[0][0] < np.pi / 2:
            mean, sd, weight = np.zeros((1, 1)), np.full((1, 1), self._run.start_scale), np.ones((1, 1))
        else:
            line, members = self._line, slice(0, self._line.members)
            mean, weight = np.cos(first) * line.parts.means[members], np.exp(line.parts.log_weights[members])
            sd, weight = np.sqrt(np.cos(first) ** 2 * line.parts.variances[members] + np.sin(first) ** 2), weight / weight.sum()
        z = (edges - mean) / sd  # (K, N + 1)
        # Differences of the smaller tail keep the far masses.
        mass = np.where(z[:, 1:] > 0, ndtr(-z[:, :-1]) - ndtr(-z[:, 1:]), ndtr(z[:, 1:]) - ndtr(z[:, :-1]))
        return (weight * mass).sum(0)

    def _generator(self, centre, width, clock, w):
        theta = _angle(clock)
        return _fluxes(centre, width, 0.5 * centre**2 + 2 * self._line.potential(theta, centre, w(theta)))

    def _killed_generator(self, centre, width, clock, w):
        theta = _angle(clock)
        log_law, _, gap = self._line.reweighted(theta, centre, w(theta))  # (N,) each
        left, middle, right = _fluxes(centre, width, 0.5 * centre**2 + 2 * log_law)
        return left, middle - 2 * w(theta) * gap**2, right


def _angle(clock):
    # The angle of OU() at time `clock`.
    return np.arctan2(np.sqrt(-np.expm1(-2 * clock)), np.exp(-clock))


def _fluxes(centre, width, psi):
    """The three diagonals of the discrete forward operator on cell masses, for the drift psi' and unit diffusion."""
    step, gap = np.diff(psi), np.diff(centre)  # (N - 1,)
    right = _bernoulli(-step) / (gap * width[:-1])  # (N - 1,): rate from cell i to i + 1
    left = _bernoulli(step) / (gap * width[1:])  # (N - 1,): rate from cell i + 1 to i
    middle = np.zeros(len(centre))
    middle[:-1] -= right
    middle[1:] -= left
    return left, middle, right


def _bernoulli(z):
    # z / (exp(z) - 1)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.where(np.abs(z) < 1e-10, 1 - 0.5 * z, z / np.expm1(np.clip(z, -700, 700)))


def _apply(generator, mass):
    left, middle, right = generator
    out = middle * mass
    out[:-1] += left * mass[1:]
    out[1:] += right * mass[:-1]
    return out


def _implicit(generator, step, right_side):
    from scipy.linalg import solve_banded

    left, middle, right = generator
    bands = np.zeros((3, len(middle)))  # (3, N)
    bands[0, 1:], bands[1], bands[2, :-1] = -step * left, 1 - step * middle, -step * right
    return solve_banded((1, 1), bands, right_side, overwrite_ab=True, overwrite_b=True, check_finite=False)


def _richardson(values):
    """Values at h, h / 2 (, h / 4) of a second-order scheme, extrapolated to h = 0."""
    better = [(4 * fine - coarse) / 3 for coarse, fine in zip(values[:-1], values[1:])]
    return better[0] if len(better) == 1 else (16 * better[1] - better[0]) / 15


def _cell_entropy(edges, mass):
    filled = mass > 0
    return float(-(mass[filled] * np.log(mass[filled] / np.diff(edges)[filled])).sum())


def _summary(edges, mass):
    centre = 0.5 * (edges[1:] + edges[:-1])
    mean = mass @ centre
    return [mean, np.sqrt(mass @ (centre - mean) ** 2), _cell_entropy(edges, mass)]
