"""`FlowMap`: the guided probability-flow ODE on a line, as an increasing map from noise to data (see `exact`)."""
from __future__ import annotations

from dataclasses import dataclass
from functools import wraps

import numpy as np

from .lines import BLUR, LOG_SQRT_2PI, TOLERANCE, _Intervals, _Line, _Run, _solve
from .process import OU

GOAL = 1e-9  # of a quadrature, relative to the integral of the integrand's size
LIMIT = 1e-8  # an answer less certain than this is refused
CORE = 9.0  # |xi| beyond this has probability 2e-19
FAR = 38.0  # the normal density underflows a little further out
FARTHEST = 2000.0  # no panels beyond this, even for logarithms
NODES = 16
MOST = 5000  # panels
MOST_CALLS = 20_000  # evaluations of a flow in several dimensions, where a usual run takes a few hundred


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
