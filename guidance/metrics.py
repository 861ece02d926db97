"""Numbers that summarise samples: confidence, its inverse, entropy, distances between laws, support, and intervals.

Everything takes float arrays and returns floats or arrays; what is random takes a numpy.random.Generator. Where a law is
known exactly, `exact` computes the same quantities with no sampling error.
"""
from __future__ import annotations

import numpy as np


def mean_interval(values, level=0.95):
    """The mean of independent draws and its confidence interval by Student's t: (mean, low, high), floats.

    values : (n,) float, n >= 2.  level : coverage in (0, 1), exact for normal draws and right for large n otherwise.
    A heavy-tailed mean, such as that of 1 / p(c | x) without guidance, can lie far outside: see `exact`.
    """
    from scipy.special import stdtrit

    values = _numbers("values", values, least=2)
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), such as 0.95, got {level!r}")
    n, mean = len(values), float(values.mean())
    half = float(stdtrit(n - 1, 0.5 + 0.5 * level) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def confidence(p, x, label):
    """p(label | x) (n,) at points x (n, d): the confidence of Wu et al. (2403.01639), in substance."""
    return p.posterior(_points("x", x), label)


def inverse_confidence(p, x, label):
    """1 / p(label | x) (n,) at points x (n, d), finite as long as it is below 1e308.

    Its mean is what Li & Jiao (2505.01382) show, in substance, that guidance of the reverse SDE lowers; at w = 0 it is 1 / p(label).
    """
    return np.exp(-p.log_posterior(_points("x", x), label))


def entropy_knn(x, k=5):
    """An estimate of the differential entropy from draws x (n, d), in nats: a float.

    Kozachenko & Leonenko (1987) with the k-th nearest neighbour: psi(n) - psi(k) + log(volume of the unit ball) +
    d mean log(distance). Biased for small n and large d; `exact.entropy` has no such error.

    Raises ValueError if n <= k, or if more than k points coincide (a law with atoms has entropy -infinity).
    """
    from scipy.spatial import cKDTree
    from scipy.special import gammaln, psi

    x = _points("x", x)
    n, d = x.shape
    if int(k) != k or not 1 <= k < n:
        raise ValueError(f"k must be an integer from 1 to n - 1 = {n - 1}, got {k!r}")
    distances = cKDTree(x).query(x, k=[int(k) + 1])[0][:, 0]  # (n,): the nearest neighbour of a point is itself
    if not np.all(distances > 0):
        raise ValueError(f"x has more than k = {k} equal points: raise k, or remove copies")
    log_ball = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    return float(psi(n) - psi(k) + log_ball + d * np.log(distances).mean())


def wasserstein(x, y, order=1):
    """The Wasserstein distance of order 1 or 2 between two sets of draws x (n,) and y (m,) on a line, exactly: a float.

    The optimal coupling on a line pairs quantiles (Villani 2003, theorem 2.18), so sorting is enough. Arrays (n, 1) are taken too.
    """
    x, y = (np.sort(_numbers(name, _column(a))) for name, a in (("x", x), ("y", y)))
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    n, m = len(x), len(y)
    if n == m:
        gaps, share = np.abs(x - y), np.full(n, 1 / n)  # (n,)
    else:
        levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # (<= n + m,): quantile levels times n m
        gaps = np.abs(x[(levels - 1) // m] - y[(levels - 1) // n])
        share = np.diff(levels, prepend=0) / (n * m)
    return float((share @ gaps**order) ** (1 / order))


def sliced_wasserstein(x, y, rng, directions=100, order=2):
    """The Wasserstein distance of draws x (n, d) and y (m, d) averaged over random directions: a float.

    The `order`-th root of the mean of W^order over `directions` unit vectors drawn with rng (Rabin et al. 2011). At most
    the Wasserstein distance in d dimensions.
    """
    x, y = _points("x", x), _points("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same number of columns, got {x.shape} and {y.shape}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, as numpy.random.default_rng(seed) makes, got {rng!r}")
    if int(directions) != directions or directions < 1:
        raise ValueError(f"directions must be an integer >= 1, got {directions!r}")
    units = rng.standard_normal((int(directions), x.shape[1]))  # (D, d)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return float(np.mean([wasserstein(x @ unit, y @ unit, order) ** order for unit in units]) ** (1 / order))


def kolmogorov_smirnov(x, cdf):
    """sup |empirical CDF - cdf| over draws x (n,) for a vectorised cdf: (n,) -> (n,), such as `FlowMap.cdf`: a float in [0, 1].

    For draws of that very law, sqrt(n) times it exceeds 1.36 with probability 0.05 for large n.
    """
    x = np.sort(_numbers("x", x))
    levels, n = np.asarray(cdf(x), float), len(x)
    if levels.shape != x.shape or not np.all((levels >= 0) & (levels <= 1)):
        raise ValueError(f"cdf must return a probability for each of its {n} arguments, got shape {levels.shape}")
    return float(max((np.arange(1, n + 1) / n - levels).max(), (levels - np.arange(n) / n).max()))


def outside_share(x, lows, highs):
    """The share of points x (n, d) that lie in none of the boxes lows <= x <= highs, (K, d) or (d,) each: a float in [0, 1].

    One minus the "good share" of Chidambaram et al. (2409.13074), in substance, for a law of uniform boxes.
    """
    x, lows, highs = _points("x", x), np.atleast_2d(lows), np.atleast_2d(highs)
    if lows.shape != highs.shape or lows.shape[1] != x.shape[1] or not np.all(lows <= highs):
        raise ValueError(f"lows and highs must be (K, {x.shape[1]}) with lows <= highs, got shapes {lows.shape} and {highs.shape}")
    inside = np.zeros(len(x), bool)
    for low, high in zip(lows, highs):
        inside |= np.all((low <= x) & (x <= high), axis=1)
    return float(1 - inside.mean())


def off_support_ratio(x, basis):
    """|part of x orthogonal to a subspace| / |part within| for points x (n, d) and a basis (d, m) of the subspace: (n,).

    The off-support ratio of Guo et al. (2404.14743), in substance: data live on the span of the columns of `basis`,
    which need not be orthonormal. Infinite for a point orthogonal to the subspace, and 0 at the origin.
    """
    x = _points("x", x)
    basis = np.asarray(basis, float)
    if basis.ndim != 2 or basis.shape[0] != x.shape[1] or not np.all(np.isfinite(basis)):
        raise ValueError(f"basis must be a finite ({x.shape[1]}, m) array, got shape {basis.shape}")
    directions, sizes, _ = np.linalg.svd(basis, full_matrices=False)  # (d, min(d, m))
    directions = directions[:, sizes > 1e-12 * sizes.max(initial=0.0)]
    within = x @ directions  # (n, r)
    off = np.linalg.norm(x - within @ directions.T, axis=1)  # (n,)
    size = np.linalg.norm(within, axis=1)  # (n,)
    return np.divide(off, size, out=np.where(off > 0, np.inf, 0.0), where=size > 0)


def mean_path(trajectory, direction, origin=None):
    """The mean and the standard deviation over samples of a trajectory projected on a direction.

    trajectory : (steps + 1, n, d), or (steps + 1, W, n, d) for a sweep, as `sample(..., trajectory=True)` returns.
    direction : (d,), of any length but zero; it is made a unit vector, so that paths are in the units of x.
    origin : (d,) or None (the origin of x), the point that projects to 0.

    Returns (mean, deviation), each (steps + 1,), or (W, steps + 1) for a sweep: the mean trajectory and the band around it of
    Chidambaram et al. (2409.13074), in substance, where the direction joins the means of two classes.
    """
    trajectory, direction = np.asarray(trajectory), np.asarray(direction)
    if trajectory.dtype.kind != "f" or trajectory.ndim not in (3, 4) or 0 in trajectory.shape or not np.all(np.isfinite(trajectory)):
        raise ValueError(f"trajectory must be finite, (steps + 1, n, d) or (steps + 1, W, n, d), got {trajectory.dtype} {trajectory.shape}")
    if direction.dtype.kind != "f" or direction.shape != trajectory.shape[-1:] or not 0 < np.linalg.norm(direction) < np.inf:
        raise ValueError(f"direction must be ({trajectory.shape[-1]},) finite floats, not all zero, got {direction!r}")
    unit = direction / np.linalg.norm(direction)
    projected = trajectory @ unit  # (steps + 1, n) or (steps + 1, W, n)
    if origin is not None:
        origin = np.asarray(origin, float)
        if origin.shape != unit.shape or not np.all(np.isfinite(origin)):
            raise ValueError(f"origin must be ({len(unit)},) finite numbers, got {origin!r}")
        projected = projected - origin @ unit
    return projected.mean(-1).T, projected.std(-1).T


def reversal(path):
    """The furthest that a path moves back against its own direction from start to end, >= 0, in the units of the path.

    path : (steps + 1,) gives a float; (W, steps + 1) gives (W,). For a path that ends above its start it is the largest
    path[i] - path[j] over i < j, the furthest fall after any earlier point, be it an overshoot pulled back or a dip; for
    one that ends below its start, the largest rise. 0 means monotone; a path that ends where it began is judged by the
    smaller of the two.
    """
    path = np.asarray(path)
    if path.dtype.kind != "f" or path.ndim not in (1, 2) or path.shape[-1] < 2 or not np.all(np.isfinite(path)):
        raise ValueError(f"path must be finite floats (steps + 1,) or (W, steps + 1), steps >= 1, got {path.dtype} {path.shape}")
    fall = (np.maximum.accumulate(path, -1) - path).max(-1)
    rise = (path - np.minimum.accumulate(path, -1)).max(-1)
    gain = path[..., -1] - path[..., 0]
    out = np.where(gain > 0, fall, np.where(gain < 0, rise, np.minimum(fall, rise)))
    return float(out) if out.ndim == 0 else out


def largest_monotone_strength(strengths, paths, tolerance):
    """The largest w such that its mean path, and that of every smaller w tried, is monotone within `tolerance`: a float, or None.

    strengths : (W,), in any order, no two equal.  paths : (W, steps + 1), row i belonging to strengths[i], e.g. from `mean_path`.
    tolerance : >= 0, absolute, in the units of the paths: the `reversal` that still counts as monotone.

    The first rule for choosing w of Chidambaram et al. (2409.13074), in substance: for nearly separable classes, the largest w
    whose mean projected trajectory is still monotone. The answer depends on the tolerance: state it. A w above one that fails is not
    taken, since beyond the first failure a path can look monotone again by accident (another mode, too few steps).
    None: not even the smallest w passes.
    """
    return _largest_passing(strengths, reversal(_rows("paths", paths)), tolerance)


def largest_inside_strength(strengths, outside_shares, tolerance):
    """The largest w such that it and every smaller w tried leave at most `tolerance` of the samples outside: a float, or None.

    strengths : (W,), in any order, no two equal.  outside_shares : (W,) in [0, 1], e.g. from `outside_share`.  tolerance : in [0, 1].
    The second rule of Chidambaram et al. (2409.13074), in substance: where classes are not separable, the largest w whose
    samples stay on the support. None: not even the smallest w passes.
    """
    shares = _numbers("outside_shares", outside_shares)
    if not np.all((shares >= 0) & (shares <= 1)):
        raise ValueError(f"outside_shares must be in [0, 1], got {shares!r}")
    return _largest_passing(strengths, shares, tolerance)


def _largest_passing(strengths, values, tolerance):
    strengths = _numbers("strengths", np.asarray(strengths, float))
    if len(strengths) != len(values) or len(np.unique(strengths)) != len(strengths):
        raise ValueError(f"strengths must be {len(values)} different numbers, one for each path or share, got {strengths!r}")
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance must be a finite number >= 0, got {tolerance!r}")
    order = np.argsort(strengths)
    passed = int(np.minimum.accumulate(values[order] <= tolerance).sum())
    return float(strengths[order][passed - 1]) if passed else None


def _rows(name, value):
    array = np.asarray(value)
    if array.ndim != 2:
        raise ValueError(f"{name} must be (W, steps + 1), a row for each strength, got shape {array.shape}")
    return array


def _column(value):
    return np.reshape(value, -1) if np.ndim(value) == 2 and np.shape(value)[1] == 1 else value


def _numbers(name, value, least=1):
    return _floats(name, value, 1, "(n,)", least)


def _points(name, value):
    return _floats(name, value, 2, "(n, d)", 1)


def _floats(name, value, axes, shape, least):
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be floating point, got dtype {array.dtype}: use {name}.astype(float)")
    if array.ndim != axes or len(array) < least:
        raise ValueError(f"{name} must be {shape} with n >= {least}, got shape {array.shape}")
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise ValueError(f"{name} holds {bad} NaN or infinite entries: check the step that made them")
    return array
