"""Sums over the components of a Gaussian mixture, in cache-sized chunks of points.

Every exact quantity of a mixture is made of sums over components, sum_k exp(l_k(x)) (...), where l_k(x) is the log of
the weighted density of component k. l_k is a quadratic form in x, so a table of l_k over K components and a chunk of C
points is one matrix product of coefficients (K, F) with features of the points (F, C), and every sum over components is
a second one with exp(table). Points are the last axis, so that reductions over components are vector operations.

The K x C table is the only large intermediate: an N x K x d array is never formed. Exponentials are taken relative to
the largest entry of their group and cut off at the smallest normal number, below which they would be slow and are
irrelevant; both steps are skipped where a bound on |l_k| shows that they change nothing.

When |x|^2 / variance is so large that the products of the quadratic form would cancel, l_k is summed from the squared
differences instead: slower, and right to rounding at any distance.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SMALL = 6  # up to this many dimensions, products x_i x_j are features: a full covariance then costs what a diagonal one does
CHUNK_BYTES = 800_000
SLAB_BYTES = 8_000_000
LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True)
class Tables:
    """Coefficients of one mixture at one noise level, in the coordinates y = rotation^T (x - centre)."""

    first: np.ndarray  # (K, F): log table = first @ features
    second: np.ndarray  # (R, K): sums = second @ exp(log table); rows precision_k mean_k, precision_k, ones
    centre: np.ndarray  # (d,)
    rotation: np.ndarray | None  # (d, d)
    means: np.ndarray  # (K, d) in y
    precisions: np.ndarray  # (K, 1), (K, d) or (K, d, d)
    peaks: np.ndarray  # (K,): l_k at its maximum
    lowest_peak: float
    highest_peak: float
    radius: float  # the largest |mean| in y
    largest_precision: float
    safe_distance: float  # squared distances in standard deviations up to which the quadratic form keeps its digits
    limit: float  # exp(-limit) is just above the smallest normal number

    @property
    def dimension(self):
        return self.means.shape[1]


def tables(means, log_weights, covariances, dtype):
    """Coefficients for `log_table` and `write_score`; all arguments float64, cast to `dtype` at the end.

    Not for per-component full covariances in more than SMALL dimensions: `streamed` does those.
    """
    K, d = means.shape
    centre = means.sum(0) / K  # (d,)
    rotation, variances = covariances.rotation, covariances.variances
    y, axes = means - centre, None  # (K, d)
    if rotation is not None and rotation.ndim == 2:
        y, axes = y @ rotation, rotation
    peaks = log_weights - (d * LOG_2PI + np.log(variances).sum(1) * (d // variances.shape[1])) / 2  # (K,)
    if rotation is not None and rotation.ndim == 3:
        precisions = (rotation / variances[:, None]) @ rotation.transpose(0, 2, 1)  # (K, d, d)
        linear = np.einsum("kij,kj->ki", precisions, y)  # (K, d)
        i, j = np.triu_indices(d)
        quadratic = np.where(i == j, -0.5, -1.0) * precisions[:, i, j]  # (K, d (d + 1) / 2)
    else:
        precisions = 1 / variances  # (K, 1) or (K, d)
        linear, quadratic = precisions * y, -0.5 * precisions
    first = np.concatenate([linear, quadratic, (peaks - (linear * y).sum(1) / 2)[:, None]], 1)  # (K, F)
    second = np.concatenate([linear.T, precisions.reshape(K, -1).T, np.ones((1, K))])  # (R, K)
    cast = lambda a: None if a is None else a.astype(dtype, copy=False)
    info, tolerance = np.finfo(dtype), 1e-11 if dtype == np.float64 else 1e-3
    return Tables(
        cast(first), cast(second), cast(centre), cast(axes), cast(y), cast(precisions), cast(peaks),
        lowest_peak=float(peaks.min()),
        highest_peak=float(peaks.max()),
        radius=float(np.sqrt((y**2).sum(1).max())),
        largest_precision=float(1 / variances.min()),
        safe_distance=tolerance / float(info.eps),
        limit=-math.log(info.tiny) - 1,
    )


@dataclass(frozen=True)
class Workspace:
    """Buffers for one chunk of at most C points, reused from chunk to chunk: fresh memory would cost more than the sums."""

    phi: np.ndarray  # (F, C), in memory (C, F) above SMALL dimensions; the last feature is 1
    logs: np.ndarray  # (K, C)
    flat: np.ndarray  # (K C,), the memory of logs, whatever c is

    def first(self, c):
        """The same buffers cut to c points."""
        return self if c == self.phi.shape[1] else Workspace(self.phi[:, :c], self.logs[:, :c], self.flat)


def chunks(table, n):
    """(slice, workspace) for successive chunks of n points, sized so that what a chunk needs takes about CHUNK_BYTES."""
    (K, F), R, d = table.first.shape, len(table.second), table.dimension
    rows = K + F + (R if d <= SMALL else R - d)
    size = max(1, min(n, max(32, CHUNK_BYTES // (rows * table.first.dtype.itemsize))))
    phi = np.empty((F, size), table.first.dtype) if d <= SMALL else np.empty((size, F), table.first.dtype).T
    phi[-1] = 1
    flat = np.empty(K * size, table.first.dtype)
    work = Workspace(phi, flat.reshape(K, size), flat)
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        yield part, work.first(part.stop - start)


def log_table(table, x, work):
    """Fills work.phi with the features and work.logs with l_k at points x (C, d); returns (low, high) that bound l_k.

    Raises ValueError when x holds NaN or infinity.
    """
    d, phi = table.dimension, work.phi
    y = phi[:d]  # (d, C)
    if d <= SMALL:
        for j in range(d):
            np.subtract(x[:, j], table.centre[j], out=y[j])
    else:
        np.subtract(x, table.centre, out=y.T)
    if table.rotation is not None:
        y[...] = table.rotation.T @ y
    if table.precisions.ndim == 3:
        row, largest = d, 0.0
        for i in range(d):
            np.multiply(y[i:], y[i], out=phi[row : row + d - i])
            largest += float(phi[row].max())
            row += d - i
    elif table.precisions.shape[1] == d:
        np.multiply(y, y, out=phi[d : 2 * d])
        largest = float(phi[d : 2 * d].max()) * d if d <= SMALL else float(phi[d : 2 * d].T.sum(1).max())
    else:
        largest = float(np.einsum("ij,ij->j", y, y, out=phi[d]).max())
    if not largest < math.inf:
        raise ValueError("x holds NaN or infinity: check the step that made it")
    distance = (math.sqrt(largest) + table.radius) ** 2 * table.largest_precision
    if distance < table.safe_distance:
        np.matmul(table.first, phi, out=work.logs)
    else:
        _log_table_by_differences(table, y, work.logs)
    return table.lowest_peak - distance / 2, table.highest_peak


def _log_table_by_differences(table, y, out):
    out[...] = 0  # (K, C)
    if table.precisions.ndim == 3:
        for row, mean, precision in zip(out, table.means, table.precisions):
            difference = y - mean[:, None]  # (d, C)
            row += np.einsum("ij,ij->j", difference, precision @ difference)
    else:
        for j, coordinate in enumerate(y):
            difference = coordinate - table.means[:, j, None]  # (K, C)
            out += difference * difference * table.precisions[:, min(j, table.precisions.shape[1] - 1), None]
    out *= -0.5
    out += table.peaks[:, None]


def exponentials(table, logs, bound):
    """Turns rows of a log table into exp(l - shift) in place; returns the shift, (C,) or 0."""
    low, high = bound
    # Not only each exponential, also the ratio of any two must stay within range: guidance divides one group by another.
    if max(-low, high, high - low) < 0.75 * table.limit:
        np.exp(logs, out=logs)
        return 0.0
    shift = logs.max(0)  # (C,)
    logs -= shift
    if high - low > table.limit:
        np.maximum(logs, -table.limit, out=logs)
    np.exp(logs, out=logs)
    return shift


def write_score(table, work, out, rows=slice(None), normalised=False, keep=False):
    """Writes sum_k e_k precision_k (mean_k - x) over some components into out (C, d), with e_k in work.logs[rows].

    Divided by sum_k e_k unless the e_k are `normalised`. Overwrites features and e_k unless told to `keep` them.
    """
    d, second, weights = table.dimension, table.second[:, rows], work.logs[rows]
    y = work.phi[:d]  # (d, C)
    if d > SMALL:
        if not normalised:
            weights *= 1 / weights.sum(0)
        np.matmul(weights.T, second[:d].T, out=out)
        pulls = weights.T @ second[d:-1].T  # (C, 1) or (C, d)
        if pulls.shape[1] == d:
            out -= np.multiply(y.T, pulls, out=pulls)
        else:
            # The exponentials are not needed any more: their memory takes the product, unless it is too small or kept.
            spare = work.flat[: out.size].reshape(out.shape) if work.flat.size >= out.size and not keep else None
            out -= np.einsum("ij,i->ij", y.T, pulls[:, 0], out=spare)
        if table.rotation is not None:
            out[...] = out @ table.rotation.T
        return
    sums = second @ weights  # (R, C)
    score = sums[:d]  # (d, C)
    if table.precisions.ndim == 3:
        for j in range(d):
            column = sums[d + j * d : d + (j + 1) * d]  # (d, C)
            column *= y[j]
            score -= column
    else:
        score -= np.multiply(y, sums[d:-1], out=None if keep else y)
    if table.rotation is not None:
        score = table.rotation @ score
    for j in range(d):
        if normalised:
            out[:, j] = score[j]
        else:
            np.divide(score[j], sums[-1], out=out[:, j])


def streamed(x, means, log_weights, covariances, score=True):
    """log sum_k exp(l_k) (n,) and the score (n, d) for per-component full covariances in many dimensions.

    One matrix product of each component's precision with x - mean gives both l_k and its gradient. The sums over
    components run along relative to a shift that follows the largest l_k at a distance, so that nothing of size n x K is
    held. score=False returns None for it. x must be finite.
    """
    (n, d), dtype = x.shape, x.dtype
    log_prob, out = np.empty(n, dtype), np.empty((n, d), dtype) if score else None  # (n,), (n, d)
    slab = max(32, SLAB_BYTES // (d * dtype.itemsize))
    for start in range(0, n, slab):
        part = slice(start, min(start + slab, n))
        log_prob[part] = _stream_slab(x[part], means, log_weights, covariances, None if out is None else out[part])
    return log_prob, out


def _pull_coefficients(y, log_weights, variances, rotation, dtype):
    # precision_k (x - mean_k) = linear_k [x, 1]: (B d, d + 1); also the means (B, d) and the peaks (B, 1) of l_k.
    B, d = y.shape
    linear = np.empty((B, d, d + 1), dtype)
    for k, (mean, v, Q) in enumerate(zip(y, variances, rotation)):
        root = Q / np.sqrt(v)  # (d, d)
        precision = root @ root.T
        linear[k, :, :d], linear[k, :, d] = precision, -(precision @ mean)
    peaks = log_weights - (d * LOG_2PI + np.log(variances).sum(1)) / 2  # (B,)
    return linear.reshape(B * d, d + 1), y.astype(dtype), peaks[:, None].astype(dtype)


def _stream_slab(x, means, log_weights, covariances, out):
    (n, d), dtype = x.shape, x.dtype
    centre = means.mean(0)  # (d,)
    points = np.ones((d + 1, n), dtype)  # (d + 1, n)
    np.subtract(x.T, centre[:, None], out=points[:d], casting="same_kind")
    shift, total = np.empty(n, dtype), np.zeros(n, dtype)  # (n,), (n,)
    moved = np.zeros((d, n), dtype)  # (d, n)
    room = -math.log(np.finfo(dtype).tiny) / 2
    block = max(1, 512 // d)
    size = max(64, 2 * CHUNK_BYTES // (block * d * dtype.itemsize))
    for first in range(0, len(means), block):
        rows = slice(first, first + block)
        linear, y, peaks = _pull_coefficients(means[rows] - centre, log_weights[rows], covariances.variances[rows], covariances.rotation[rows], dtype)
        B = len(y)
        buffer = np.empty((B * d, min(size, n)), dtype)
        for start in range(0, n, size):
            part = slice(start, min(start + size, n))
            pulls = np.matmul(linear, points[:, part], out=buffer[:, : part.stop - start]).reshape(B, d, -1)  # (B, d, C)
            logs = np.einsum("dc,bdc->bc", points[:d, part], pulls)  # (B, C)
            logs -= (y[:, None] @ pulls)[:, 0]
            logs *= -0.5
            logs += peaks
            if first == 0:
                shift[part] = logs.max(0)
            logs -= shift[part]
            raised = logs.max(0)  # (C,)
            if raised.max() > room:
                np.maximum(raised, 0, out=raised)
                rescale = np.exp(-raised)
                total[part] *= rescale
                moved[:, part] *= rescale
                shift[part] += raised
                logs -= raised
            weights = np.exp(np.maximum(logs, -2 * room + 2, out=logs), out=logs)  # (B, C)
            total[part] += weights.sum(0)
            if out is not None:
                moved[:, part] += np.einsum("bc,bdc->dc", weights, pulls)
    if out is not None:
        np.divide(moved.T, -total[:, None], out=out)
    return shift + np.log(total)
