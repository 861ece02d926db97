"""Score networks small enough to train in a page: denoising score matching with labels dropped at random.

A network sees the noised sample and the angle theta = atan2(sigma, alpha), which stays in [0, pi / 2] where log-SNR runs
to both infinities, and it predicts the velocity v = E[-sigma x_0 + alpha eps | x_t] (Salimans & Ho 2022). An error e in v
is an error (alpha / sigma) e in the score and sigma e in the denoiser (for alpha^2 + sigma^2 = 1): bounded at high noise. An
error e in a noise prediction is (sigma / alpha) e in the denoiser, which blows up as alpha -> 0, and guidance multiplies it again.
"""
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import silu
from tqdm import tqdm  # not tqdm.auto: its notebook bar ignores TQDM_DISABLE

from .process import score_from_velocity

PREDICTIONS = ("v", "eps")
HARMONICS = 8


@contextmanager
def one_thread():
    """Run torch on one CPU thread inside the block and restore the old count after it.

    Layers this small cost less than handing them to a second thread: on two shared cores one thread trains about 15 times faster.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ScoreNetwork(nn.Module):
    """A residual perceptron (x, theta, label) -> v, with one extra "null" label that stands for no label at all.

    The null label makes one network hold both scores that classifier-free guidance combines (Ho & Salimans 2022).

    Parameters
    ----------
    d : int, dimension of the data.
    labels : sequence of distinct labels the network knows; () makes it unconditional only.
    process : a `guidance.process.Process`, which gives alpha(t) and sigma(t).
    hidden, depth : int, width and number of hidden layers.
    prediction : "v" (velocity) or "eps" (noise; kept to show where it fails).
    seed : int, the initial weights depend on it alone; torch's global random state is left as it was.

    Attributes
    ----------
    labels : tuple of the known labels.
    losses : (steps,) float64, the training loss of every step, set by `train`. It does not go to zero: what remains
        is the variance of the target given x_t, which no network can predict. `score_error` measures the rest.

    Raises
    ------
    ValueError if a size is not a positive integer, a label repeats, or the prediction is unknown.
    """

    def __init__(self, d, labels, process, *, hidden=64, depth=4, prediction="v", seed):
        super().__init__()
        for name, value in (("d", d), ("hidden", hidden), ("depth", depth)):
            _check_count(name, value)
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
        self.d, self.labels, self.process, self.prediction = d, tuple(labels), process, prediction
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must be distinct, got {self.labels!r}")
        self.losses = np.empty(0)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))
            self.from_x = nn.Linear(d, hidden)
            self.from_angle = nn.Linear(2 * HARMONICS, hidden)
            self.from_label = nn.Embedding(len(self.labels) + 1, hidden)
            self.body = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
            self.head = nn.Linear(hidden, d)
        self.register_buffer("harmonics", torch.arange(1.0, HARMONICS + 1), persistent=False)
        # A start at v = 0 makes the first steps learn the mean instead of unlearning noise.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x, angle, index):
        """The raw prediction, for x_t scaled to alpha^2 + sigma^2 = 1.

        Parameters
        ----------
        x : (..., d) tensor. angle, index : (...) tensors or any shape that broadcasts; index counts in `labels`, null last.

        Returns
        -------
        (..., d) tensor.
        """
        phase = angle[..., None] * self.harmonics  # (..., HARMONICS)
        condition = self.from_angle(torch.cat([phase.cos(), phase.sin()], -1)) + self.from_label(index)  # (..., hidden)
        h = self.from_x(x) + condition  # (..., hidden)
        for layer in self.body:
            h = h + layer(silu(h))  # (..., hidden)
        return self.head(silu(h))  # (..., d)

    def velocity(self, x, t, label=None):
        """v = E[-sigma x_0 + alpha eps | x_t = x, label]; label None means no label.

        Parameters
        ----------
        x : (..., d) float NumPy array or torch tensor; a tensor must be on the network's device,
            stays there and keeps its gradient.
        t : float >= 0.
        label : one of `labels`, or None.

        Returns
        -------
        Like x: same kind, shape and dtype.

        Raises
        ------
        TypeError if x is not a float array or tensor; ValueError if its last axis is not d, a NumPy x holds NaN or inf,
        t is not one number >= 0, or the label is unknown.
        """
        return self._field(_velocity, x, t, self._index(label))

    def score(self, label=None):
        """The learned score field of a label, or the unconditional one for None: a callable score(x, t) -> like x.

        It takes what `velocity` takes and raises what `velocity` raises, and ValueError where sigma(t) = 0, since a
        predicted velocity or noise fixes the score only at sigma > 0. Fields combine by `cfg.combine(cond, uncond, w)`.
        """
        index = self._index(label)
        return lambda x, t: self._field(_score, x, t, index)

    def _index(self, label):
        """The row of a label in the embedding; the last row is the null label."""
        if label is None:
            return len(self.labels)
        if np.ndim(label) != 0 or label not in self.labels:
            raise ValueError(f"label must be None or one of {self.labels}, got {label!r}")
        return self.labels.index(label)

    def _field(self, convert, x, t, index):
        if np.ndim(t) != 0:
            raise ValueError(f"t must be one number, got shape {np.shape(t)}; call the network once for each time")
        alpha, sigma = float(self.process.alpha(t)), float(self.process.sigma(t))
        if isinstance(x, torch.Tensor):
            return self._predict(convert, x, alpha, sigma, index)
        _check_floats("x", x)
        with torch.no_grad(), one_thread():
            points = torch.from_numpy(np.ascontiguousarray(x)).to(self.harmonics.device)  # (..., d)
            return self._predict(convert, points, alpha, sigma, index).cpu().numpy()

    def _predict(self, convert, x, alpha, sigma, index):
        if not x.is_floating_point():
            raise TypeError(f"x must hold floats, got {x.dtype}; use x.double() or x.float()")
        if x.ndim < 1 or x.shape[-1] != self.d:
            raise ValueError(f"x must have shape (..., {self.d}), got {tuple(x.shape)}")
        angle = self.harmonics.new_tensor(np.arctan2(sigma, alpha))  # ()
        index = torch.tensor(index, device=angle.device)  # ()
        raw = self((x / np.hypot(alpha, sigma)).to(angle.dtype), angle, index).to(x.dtype)  # (..., d)
        return convert(self.prediction, raw, x, alpha, sigma)


def _velocity(prediction, raw, x, alpha, sigma):
    if prediction == "v":
        return np.hypot(alpha, sigma) * raw
    return ((alpha**2 + sigma**2) * raw - sigma * x) / alpha


def _score(prediction, raw, x, alpha, sigma):
    if sigma == 0:
        raise ValueError(
            "t must have sigma(t) > 0 for a learned score, got sigma = 0; end the time grid at a small t_min > 0 (ddim may end at 0)"
        )
    if prediction == "v":
        return score_from_velocity(_velocity(prediction, raw, x, alpha, sigma), x, alpha, sigma)
    return -raw / sigma


def train(
    x,
    labels,
    process,
    *,
    steps=4000,
    batch_size=512,
    hidden=64,
    depth=4,
    prediction="v",
    label_dropout=0.15,
    ema_decay=0.995,
    learning_rate=5e-3,
    seed,
    T=None,
    t_min=0.0,
    progress=True,
    device="cpu",
):
    """Train a `ScoreNetwork` by denoising score matching (Vincent 2011; Song et al. 2021) and return its averaged weights.

    Every step noises a batch at angles stratified over [theta(t_min), theta(T)], replaces each label by the null label
    with probability `label_dropout` (Ho & Salimans 2022), and takes an Adam step, with cosine decay, on the mean square distance to
    the target: cos(theta) eps - sin(theta) x_0 for "v", eps for "eps". The weights returned are an exponential moving average
    (in diffusion models since Ho et al. 2020). The defaults fit a 2-D mixture; for d = 64 use hidden of 256 or more.

    Parameters
    ----------
    x : (n, d) float array of data, or an object with .sample(n, rng) -> (x, labels) and .classes, such as
        `GaussianMixture`, from which every batch is drawn afresh. Entries should be of order one.
    labels : (n,) array of labels for array data, None to train without labels; None where x is a sampler.
    process : a `guidance.process.Process`.
    steps, batch_size, hidden, depth : int >= 1.
    prediction : "v" or "eps".
    label_dropout : float in [0, 1]; 0 leaves the unconditional score untrained, 1 the conditional ones.
    ema_decay : float in [0, 1); 0 returns the last weights.
    learning_rate : float > 0, its value at the first step.
    seed : int >= 0. The result depends on it and on no global random state, which is left as it was.
    T, t_min : float with 0 <= t_min < T, the times trained on; T None is the process's own.
    progress : bool, show a progress bar; the environment variable TQDM_DISABLE=1 hides it too.
    device : torch device for the network; all draws are made on the CPU, so the batches are the same on any device.

    Returns
    -------
    ScoreNetwork, float32, without gradients, with `losses` (steps,).

    Raises
    ------
    TypeError if x is neither a float array nor a sampler; ValueError if x is not (n, d) or holds NaN or inf, labels do not
    match x, or a number is outside the range above. The message names the argument.
    """
    _check_training(steps, batch_size, label_dropout, ema_decay, learning_rate, seed)
    ends = process.times(1, T=T, t_min=t_min)
    low, high = float(process.angle(ends[1])), float(process.angle(ends[0]))
    draw, names, d = _batches(x, labels, batch_size, seed)
    network = ScoreNetwork(d, names, process, hidden=hidden, depth=depth, prediction=prediction, seed=seed).to(device)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema_decay))
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(int(seed))
    losses = torch.zeros(steps, device=device)
    strata = torch.arange(batch_size)  # (batch_size,)
    with one_thread():
        # The bar waits a second, so that short runs print nothing.
        for step in tqdm(range(steps), desc="training", delay=1, leave=False) if progress else range(steps):
            x0, index = draw(generator)  # (batch_size, d), (batch_size,)
            dropped = torch.rand(batch_size, generator=generator) < label_dropout  # (batch_size,)
            index = index.masked_fill(dropped, len(names))  # (batch_size,)
            angle = low + (high - low) * (strata + torch.rand(batch_size, generator=generator)) / batch_size  # (batch_size,)
            cos, sin = angle.cos()[:, None], angle.sin()[:, None]  # (batch_size, 1)
            eps = torch.randn(x0.shape, generator=generator)  # (batch_size, d)
            target = cos * eps - sin * x0 if prediction == "v" else eps  # (batch_size, d)
            guess = network((cos * x0 + sin * eps).to(device), angle.to(device), index.to(device))  # (batch_size, d)
            loss = (guess - target.to(device)).square().mean()  # ()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
            losses[step] = loss.detach()
    trained = average.module.eval().requires_grad_(False)
    trained.losses = losses.double().cpu().numpy()
    return trained


def _batches(x, labels, batch_size, seed):
    """(draw, names, d): draw(generator) gives a batch x0 (batch_size, d) float32 and label rows (batch_size,) int64."""
    if hasattr(x, "sample"):
        if labels is not None:
            raise ValueError("labels must be None when x is a sampler: it draws its own labels")
        names, rng = np.unique(x.classes), np.random.default_rng(seed)

        def draw_fresh(generator):
            x0, drawn = x.sample(batch_size, rng)  # (batch_size, d), (batch_size,)
            return torch.as_tensor(x0, dtype=torch.float32), torch.from_numpy(np.searchsorted(names, drawn))

        return draw_fresh, names.tolist(), x.d
    _check_floats("x", x)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x must have shape (n, d) with n, d >= 1, got {x.shape}")
    names, index = _named_labels(labels, len(x))
    data, index = torch.tensor(x, dtype=torch.float32), torch.from_numpy(index)

    def draw_rows(generator):
        rows = torch.randint(len(data), (batch_size,), generator=generator)  # (batch_size,)
        return data[rows], index[rows]

    return draw_rows, names, data.shape[1]


def _named_labels(labels, n):
    """(names, index): the distinct labels and the row of each of the n data points among them."""
    if labels is None:
        return [], np.zeros(n, dtype=np.int64)
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one for each row of x, got {labels.shape}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("labels must be finite, got NaN or inf; drop those rows or give them a label of their own")
    names, index = np.unique(labels, return_inverse=True)
    return names.tolist(), index


def _check_training(steps, batch_size, label_dropout, ema_decay, learning_rate, seed):
    _check_count("steps", steps)
    _check_count("batch_size", batch_size)
    for name, value, fits, rule in (
        ("label_dropout", label_dropout, 0 <= label_dropout <= 1, "a probability in [0, 1]"),
        ("ema_decay", ema_decay, 0 <= ema_decay < 1, "in [0, 1), such as 0.995"),
        ("learning_rate", learning_rate, 0 < learning_rate < np.inf, "positive and finite, such as 5e-3"),
        ("seed", seed, isinstance(seed, (int, np.integer)) and seed >= 0, "an integer >= 0"),
    ):
        if not fits:
            raise ValueError(f"{name} must be {rule}, got {value!r}")


def _check_count(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def _check_floats(name, x):
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        got = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be a NumPy array of floats, got {got}; use np.asarray({name}, dtype=float)")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or inf at index {tuple(np.argwhere(~np.isfinite(x))[0].tolist())}")


@dataclass(frozen=True)
class ScoreError:
    """One root-mean-square error of a score at each noise level, in the units of each quantity it feeds.

    Attributes
    ----------
    times, angle : (m,) float64, the times and theta(t).
    absolute : (m,) float64, sqrt(E |score - exact score|^2) under the noised law p_t; the norm is over the d coordinates.
    relative : absolute / sqrt(E |exact score|^2).
    noise : sigma absolute, the same error as an error of E[eps | x_t].
    denoiser : (sigma^2 / alpha) absolute, as an error of E[x_0 | x_t].
    velocity : (sigma / alpha) (alpha^2 + sigma^2) absolute, as an error of v.
    """

    times: np.ndarray
    angle: np.ndarray
    absolute: np.ndarray
    relative: np.ndarray
    noise: np.ndarray
    denoiser: np.ndarray
    velocity: np.ndarray


def score_error(score, exact_score, p, process, times, n, rng):
    """How far a score field is from the exact one, at each noise level, under the noised law of p.

    The same n pairs (x_0, eps) serve all times, so the curves are smooth in t.

    Parameters
    ----------
    score, exact_score : callables (x, t) -> (n, d), such as `network.score(label)` and `cfg(p, label, 0.0, process)`.
    p : the law of x_0, with .sample(n, rng); for one label `p.given(label)`.
    process : a `guidance.process.Process`.
    times : (m,) floats with sigma(t) > 0.
    n : int >= 1, points at each time.
    rng : numpy.random.Generator.

    Returns
    -------
    ScoreError

    Raises
    ------
    ValueError if times is not a 1-D sequence of positive numbers, or n is not a positive integer.
    """
    _check_count("n", n)
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or not (times > 0).all():
        raise ValueError(f"times must be a 1-D sequence of numbers > 0, got {times!r}")
    x0, _ = p.sample(n, rng)  # (n, d)
    eps = rng.standard_normal(x0.shape)  # (n, d)
    alpha, sigma = process.alpha(times), process.sigma(times)  # (m,)
    absolute, exact_size = np.empty((2, len(times)))
    for k, t in enumerate(times):
        x = alpha[k] * x0 + sigma[k] * eps  # (n, d)
        exact = exact_score(x, t)  # (n, d)
        absolute[k], exact_size[k] = _rms(score(x, t) - exact), _rms(exact)
    return ScoreError(
        times=times,
        angle=process.angle(times),
        absolute=absolute,
        relative=absolute / exact_size,
        noise=sigma * absolute,
        denoiser=sigma**2 / alpha * absolute,
        velocity=sigma / alpha * (alpha**2 + sigma**2) * absolute,
    )


def _rms(rows):
    return np.sqrt(np.square(rows).sum(axis=-1).mean())
