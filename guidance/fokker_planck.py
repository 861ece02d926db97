"""`FokkerPlanck`: the law of the guided reverse SDE on a line (see `exact`)."""
from __future__ import annotations

import numpy as np

from .flow_map import CORE, FlowMap, _call, _elementwise, _normal_quantile
from .lines import _Line, _Run, _refuse_noiseless
from .process import OU
from .uniform import UniformMixture

GAMMA = 2 - np.sqrt(2)  # where TR-BDF2 has its stage


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

    def _mesh(self, levels=3, margin=1.0):
        """Edges in y of nested meshes: cells follow the width of the nearest narrow feature."""
        line, end = self._line, min(leg[1] for leg in self._run.legs)
        marks = np.concatenate([self._flow.map(np.array([-8.0, 8.0])) / self._run.end_scale, line.parts.landmarks((-9.0, 9.0))[[0, -1]]])
        low, high = min(marks.min(), -CORE) - margin, max(marks.max(), CORE) + margin
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
        return [np.interp(np.linspace(0, count[-1], cells * 2**i + 1), count, y) for i in range(levels)]

    def _evolve(self, edges, steps, killed=False):
        """The masses of the cells at the data end; killed=True is the equation of `inverse_confidence`."""
        width = np.diff(edges)  # (N,)
        centre = 0.5 * (edges[1:] + edges[:-1])  # (N,)
        mass = self._start(edges)
        runs = [leg for leg in self._run.legs if leg[0] < np.pi / 2]
        clocks = [(-np.log(np.cos(a)), -np.log(np.cos(b)), w) for a, b, w in runs]
        total = np.sqrt(clocks[0][0]) - np.sqrt(clocks[-1][1])
        generator = self._killed_generator if killed else self._generator
        if killed:
            mass = mass * np.exp(-self._line.reweighted(runs[0][0], centre, 0.0)[1])
        for start, stop, w in clocks:
            share = (np.sqrt(start) - np.sqrt(stop)) / total
            # Equal steps in sqrt(clock) are equal steps in sigma near the data and short steps in time near the noise.
            times = np.linspace(np.sqrt(start), np.sqrt(stop), max(8, int(np.ceil(share * steps))) + 1) ** 2
            now = generator(centre, width, times[0], w)
            for t, t_next in zip(times[:-1], times[1:]):
                step = t - t_next
                middle, after = generator(centre, width, t - GAMMA * step, w), generator(centre, width, t_next, w)
                mass, now = _tr_bdf2(now, middle, after, step, mass), after
        if not killed and (not abs(mass.sum() - 1) < 1e-6 or max(abs(mass[0]), abs(mass[-1])) > 1e-10):
            raise RuntimeError(f"the law leaks out of the mesh [{edges[0]:.3g}, {edges[-1]:.3g}]: its total is {mass.sum():.9f}")
        return mass

    def _start(self, edges, whole=False):
        """The masses of the cells at T; whole=True is the noised law of all classes where initial="class" is that of one."""
        from scipy.special import ndtr

        first = next(leg for leg in self._run.legs if leg[0] < np.pi / 2)[0]
        if len(self._run.legs) == 1 or self._run.legs[0][0] < np.pi / 2:
            mean, sd, weight = np.zeros((1, 1)), np.full((1, 1), self._run.start_scale), np.ones((1, 1))
        else:
            line, members = self._line, slice(0, None if whole else self._line.members)
            mean, weight = np.cos(first) * line.parts.means[members], np.exp(line.parts.log_weights[members])
            sd, weight = np.sqrt(np.cos(first) ** 2 * line.parts.variances[members] + np.sin(first) ** 2), weight / weight.sum()
        z = (edges - mean) / sd  # (K, N + 1)
        # Differences of the smaller tail keep the far masses.
        mass = np.where(z[:, 1:] > 0, ndtr(-z[:, :-1]) - ndtr(-z[:, 1:]), ndtr(z[:, 1:]) - ndtr(z[:, :-1]))
        return (weight * mass).sum(0)

    def _generator(self, centre, width, clock, w):
        theta = _angle(clock)
        return _fluxes(centre, width, np.diff(0.5 * centre**2 + 2 * self._line.potential(theta, centre, w(theta))))

    def _killed_generator(self, centre, width, clock, w):
        theta = _angle(clock)
        log_law, _, gap = self._line.reweighted(theta, centre, w(theta))  # (N,) each
        left, middle, right = _fluxes(centre, width, np.diff(0.5 * centre**2 + 2 * log_law))
        return left, middle - 2 * w(theta) * gap**2, right


def _angle(clock):
    # The angle of OU() at time `clock`.
    return np.arctan2(np.sqrt(-np.expm1(-2 * clock)), np.exp(-clock))


def _fluxes(centre, width, step):
    """The three diagonals of the discrete forward operator on cell masses, for unit diffusion and the drift psi', step = diff(psi)."""
    gap = np.diff(centre)  # (N - 1,)
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


def _tr_bdf2(now, middle, after, step, mass):
    """One step of the masses from the operators at its start, at GAMMA of it, and at its end: second order, and stiff modes die out."""
    stage = _implicit(middle, 0.5 * GAMMA * step, mass + 0.5 * GAMMA * step * _apply(now, mass))
    right = (stage - (1 - GAMMA) ** 2 * mass) / (GAMMA * (2 - GAMMA))
    return _implicit(after, 0.5 * GAMMA * step, right)


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
