"""Gradient guidance and its two algorithms: definitions, theorems, the official sampler, cost, networks, bad input."""
import numpy as np
import pytest
import torch

from guidance import OU, Cosine, GaussianMixture, Subspace, learn, optimize, sample
from guidance.optimize import algorithm_1, algorithm_2, gradient_guidance, look_ahead, theorem_3

COSINE = Cosine()
TIMES = COSINE.times(200, spacing="ddpm")
EXACT = dict(method="exact", progress=False)


def subspace(D=64, d=16, seed=0, ratio=9.0):
    """A (D, d) and a unit theta with |theta_off| / |theta_par| = ratio, as theta_2 of the official experiments."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((D, D)))[0]
    unit = lambda v: v / np.linalg.norm(v)
    theta = unit(Q[:, :d] @ rng.standard_normal(d)) + ratio * unit(Q[:, d:] @ rng.standard_normal(D - d))
    return Q[:, :d], unit(theta)


def f_1(theta):
    """The official quadratic reward 10 - (theta^T x - 3)^2 and its gradient."""
    return lambda x: 10 - (x @ theta - 3) ** 2, lambda x: -2 * (x @ theta - 3)[:, None] * theta


def f_2(b):
    """The official distance reward 5 - |x - b| / 2 and its gradient."""
    size = lambda x: np.linalg.norm(x - b, axis=1)
    return lambda x: 5 - size(x) / 2, lambda x: (b - x) / (2 * size(x)[:, None])


A, THETA = subspace()
MIXTURE = GaussianMixture(2 * np.random.default_rng(5).standard_normal((3, 4)), [0.5, 0.3, 0.2], np.array([[0.2], [0.5], [1.0]]))


# --- definitions --------------------------------------------------------------------------------------------------


LAWS = {"mixture": MIXTURE, "thin": Subspace(subspace(9, 4)[0], MIXTURE), "thick": Subspace(subspace(9, 4)[0], MIXTURE, 0.05)}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("t", [0.05, 0.5, 2.0])
def test_look_ahead_is_the_gradient_of_the_look_ahead_loss(law, t, rng):
    process, beta = OU(0.5), 0.7
    x, g, y = rng.standard_normal((10, law.d)), rng.standard_normal((10, law.d)), rng.standard_normal(10)
    alpha, sigma = process.alpha(t), process.sigma(t)
    score = law.noised(alpha, sigma).score

    def loss(x):
        return (y - ((x + sigma**2 * score(x)) / alpha * g).sum(1)) ** 2

    step = 1e-5
    slope = np.stack([(loss(x + e) - loss(x - e)) / (2 * step) for e in step * np.eye(law.d)], 1)
    G = look_ahead(law, g, y, process, beta=beta)(x, t) - score(x)
    assert G == pytest.approx(-beta * slope, rel=1e-5, abs=1e-5)
    assert look_ahead(law, g, y, process, beta=lambda s: beta * s / t)(x, t) - score(x) == pytest.approx(G)


@pytest.mark.parametrize("thickness", [0.0, 0.3])
def test_with_a_gaussian_law_the_guided_score_is_the_score_given_y(thickness, rng):
    # Lemma 1, against the joint normal law of (x_t, y) written out in the whole space.
    D, process, sigma, t = 7, OU(0.5), 0.3, 0.8
    C = np.cov(rng.standard_normal((4, 30)))
    law = Subspace(subspace(D, 4)[0], GaussianMixture(rng.standard_normal((1, 4)), covs=C[None]), thickness, rng.standard_normal(D))
    mu, Sigma, g, y = law.mean(), law.cov(), rng.standard_normal(D), 1.7
    alpha, h = process.alpha(t), process.sigma(t) ** 2
    # x_t given y: the mean and covariance of x_0 given y, noised.
    gain = Sigma @ g / (sigma**2 + g @ Sigma @ g)
    mean, cov = mu + gain * (y - g @ mu), Sigma - np.outer(gain, g @ Sigma)
    x = rng.standard_normal((20, D))
    exact = -np.linalg.solve(alpha**2 * cov + h * np.eye(D), (x - alpha * mean).T).T
    assert look_ahead(law, g, y, process, sigma=sigma)(x, t) == pytest.approx(exact, rel=1e-10, abs=1e-10)
    each = look_ahead(law, np.tile(g, (20, 1)), np.full(20, y), process, sigma=sigma)
    assert each(x, t) == pytest.approx(exact, rel=1e-10, abs=1e-10)
    official = look_ahead(law, g, y, process, sigma=sigma, beta="official")(x, t)
    assert np.abs(official - exact).max() > 1e-3  # exact only for Sigma = A A^T


def test_for_identity_covariance_both_fields_have_closed_forms(rng):
    x, y, sigma, t = rng.standard_normal((20, 64)), 2.0, 0.1, 0.4
    alpha, h, g = COSINE.alpha(t), COSINE.sigma(t) ** 2, 1.3 * THETA
    par, law = A @ (A.T @ g), Subspace(A)
    score = -x @ A @ A.T - (x - x @ A @ A.T) / h
    miss = (alpha * (y - alpha * x @ par))[:, None]
    for beta in ("exact", "official"):
        assert look_ahead(law, g, y, COSINE, beta=beta)(x, t) == pytest.approx(score + miss / (sigma**2 + h * par @ par) * par, rel=1e-11)
    assert gradient_guidance(law, g, y, COSINE)(x, t) == pytest.approx(score + miss / (sigma**2 + h * g @ g) * g, rel=1e-11)


def test_naive_guidance_in_its_plain_form_and_with_its_own_strength(rng):
    law, x, g = Subspace(A), rng.standard_normal((5, 64)), rng.standard_normal(64)
    score = law.noised(COSINE.alpha(0.3), COSINE.sigma(0.3)).score(x)
    assert gradient_guidance(law, g, None, COSINE, beta=lambda t: 2 * t)(x, 0.3) == pytest.approx(score + 0.6 * g, rel=1e-11)
    miss = 1.5 - law.denoiser(x, COSINE.alpha(0.3), COSINE.sigma(0.3)) @ g
    assert gradient_guidance(law, g, 1.5, COSINE, beta=0.2)(x, 0.3) == pytest.approx(score + 0.2 * miss[:, None] * g, rel=1e-9)


@pytest.mark.parametrize("D, d", [(64, 16), (10, 3), (5, 1)])
def test_look_ahead_stays_in_the_span_and_naive_does_not(D, d, rng):
    # Theorem 1, for a latent mixture and points far off the subspace; the score itself is taken off by y -> y'.
    basis = subspace(D, d)[0]
    law = Subspace(basis, GaussianMixture(3 * rng.standard_normal((3, d)), covs=0.2))
    x, g = 4 * rng.standard_normal((50, D)), rng.standard_normal((50, D))
    for t in TIMES[[0, 50, 150, 199]]:
        _, value, gradient = law.tweedie(COSINE.alpha(t), COSINE.sigma(t))(x, g)
        off = np.linalg.norm(gradient - gradient @ basis @ basis.T, axis=1)
        assert np.all(off <= 1e-12 * np.linalg.norm(gradient, axis=1))
    # Half-way, where score and guidance are of one size, in the difference of two guided fields too.
    ours, naive = (field(law, g, 100.0, COSINE)(x, 0.5) - field(law, g, 0.0, COSINE)(x, 0.5) for field in (look_ahead, gradient_guidance))
    off = lambda v: np.linalg.norm(v - v @ basis @ basis.T, axis=1) / np.linalg.norm(v, axis=1)
    assert off(ours).max() < 1e-10 and off(naive).min() > 0.1


def test_a_sweep_of_leading_axes_and_single_precision(rng):
    law, x, g = Subspace(A), rng.standard_normal((3, 8, 64)), rng.standard_normal((8, 64))
    field = look_ahead(law, g, np.arange(8.0), COSINE)
    assert field(x, 0.3)[1] == pytest.approx(field(x[1], 0.3))
    assert field(x.astype(np.float32), 0.3).dtype == np.float32
    assert field(x.astype(np.float32), 0.3) == pytest.approx(field(x, 0.3), rel=1e-4, abs=1e-3)


# --- one round ----------------------------------------------------------------------------------------------------


def official_rounds(law, theta, delta, guided, rounds, n, rng):
    """The sampler of the official code, in substance, in torch with autograd: DDPM over eps predictions of the exact score."""
    steps, D = 200, law.d
    x = np.linspace(0, 1, steps + 1)
    signal = np.cos((x + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.clip(1 - signal[1:] / signal[:-1], 0, 0.999)
    bars = np.cumprod(1 - betas)
    Sigma, mu = torch.tensor(law.cov()), torch.tensor(law.mean())
    f = lambda x: 10 - (x @ torch.tensor(theta) - 3) ** 2

    def eps(x, i):
        precision = torch.linalg.inv(bars[i] * Sigma + (1 - bars[i]) * torch.eye(D, dtype=torch.float64))
        return np.sqrt(1 - bars[i]) * (x - np.sqrt(bars[i]) * mu) @ precision

    def guided_eps(x, i, g, y):
        alpha, h = np.sqrt(bars[i]), 1 - bars[i]
        x = x.clone().requires_grad_()
        score = -eps(x, i) / np.sqrt(h)
        value = (g * (x + h * score) / alpha).sum(1)
        if guided == "look-ahead":
            slope = torch.autograd.grad(value.sum(), x)[0]
            beta = (alpha**2 / 2) / (alpha**2 * 0.1**2 + h * slope.norm(dim=1) ** 2)
            loss_slope = 2 * ((value - y) * beta)[:, None] * slope
            score = score - loss_slope
        else:
            beta = alpha / (0.1**2 + h * g.norm(dim=1) ** 2)
            score = score + (beta * (y - value))[:, None] * g
        return (-np.sqrt(h) * score).detach()

    def chain(g, y):
        x = torch.tensor(rng.standard_normal((n, D)))
        for i in reversed(range(steps)):
            before = bars[i - 1] if i else 1.0
            noise = eps(x, i) if g is None else guided_eps(x, i, g, y)
            x_0 = (x - np.sqrt(1 - bars[i]) * noise) / np.sqrt(bars[i])
            mean = betas[i] * np.sqrt(before) / (1 - bars[i]) * x_0 + (1 - before) * np.sqrt(1 - betas[i]) / (1 - bars[i]) * x
            x = mean
            if i:
                x = mean + np.sqrt(betas[i] * (1 - before) / (1 - bars[i])) * torch.tensor(rng.standard_normal((n, D)))
        return x

    z = chain(None, None)
    for _ in range(rounds):
        points = z.clone().requires_grad_()
        g = torch.autograd.grad(f(points).sum(), points)[0]
        z = chain(g, delta + (g * z).sum(1))
    return z.numpy(), f(z).mean().item()


@pytest.mark.parametrize("guidance, delta", [("look-ahead", 0.2), ("naive", 0.9)])
@pytest.mark.parametrize("covs", [1.0, "wide"])
def test_a_run_equals_the_official_sampler_with_the_exact_score_and_the_same_noise(guidance, delta, covs):
    latent = None if covs == 1.0 else GaussianMixture(np.full((1, 16), 0.2), covs=np.linspace(0.2, 3, 16)[None])
    law, (f, grad_f) = Subspace(A, latent), f_1(THETA)
    run = algorithm_1(
        law, f, grad_f, COSINE, TIMES, rounds=3, n=8, rng=np.random.default_rng(3), delta=delta, guidance=guidance, beta="official",
        progress=False,
    )
    z, reward = official_rounds(law, THETA, delta, guidance, 3, 8, np.random.default_rng(3))
    assert np.abs(run.samples - z).max() < 1e-6  # the target is 1e-5
    assert run.reward[-1] == pytest.approx(reward, abs=1e-6)


@pytest.mark.parametrize("guidance", ["look-ahead", "naive"])
@pytest.mark.parametrize("per_sample", [True, False])
def test_a_run_is_the_public_fields_and_the_public_sampler_round_by_round(guidance, per_sample):
    law, (f, grad_f), n, delta = Subspace(subspace(9, 4)[0], MIXTURE), f_1(subspace(9, 4)[1]), 6, 0.3
    times = COSINE.times(20, spacing="ddpm")
    run = algorithm_1(
        law, f, grad_f, COSINE, times, rounds=2, n=n, rng=np.random.default_rng(1), delta=delta, guidance=guidance, per_sample=per_sample,
        progress=False,
    )
    rng = np.random.default_rng(1)
    field = lambda x, t: law.noised(COSINE.alpha(t), COSINE.sigma(t)).score(x)
    rewards, targets = [], []
    for _ in range(3):
        z = sample(field, COSINE, COSINE.sigma(times[0]) * rng.standard_normal((n, 9)), times, "ddpm", rng, progress=False)
        rewards.append(f(z).mean())
        points = z if per_sample else z.mean(0)[None]
        g = grad_f(points)
        y = delta + (g * points).sum(1)
        targets.append(y.mean())
        build = look_ahead if guidance == "look-ahead" else gradient_guidance
        field = build(law, g if per_sample else g[0], y if per_sample else y[0], COSINE)
    assert run.samples == pytest.approx(z, rel=1e-8, abs=1e-10)
    assert run.reward == pytest.approx(rewards) and run.targets == pytest.approx(targets[:2])
    assert run.means[-1] == pytest.approx(z.mean(0)) and run.reward_of_mean[-1] == pytest.approx(f(z.mean(0)[None])[0])
    assert run.off_support == pytest.approx(np.zeros(3), abs=1e-12) if guidance == "look-ahead" else run.off_support[-1] > 1e-3


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_one_round_draws_the_law_given_y(scale):
    # Lemma 3, for the exact draw and for 200 DDPM steps with the exact beta.
    sigma, theta = 0.5, A @ np.eye(16)[0]
    law = Subspace(A, GaussianMixture(np.full((1, 16), 0.3), covs=np.full((1, 16), scale)))
    f, grad_f = lambda x: x @ theta, lambda x: np.broadcast_to(theta, x.shape)
    eta = 2.0
    y = eta * (sigma**2 + scale) + 0.3
    mean, variance = 0.3 + (y - 0.3) * scale / (sigma**2 + scale), scale * sigma**2 / (sigma**2 + scale)
    settings = dict(rounds=1, target="theorem", eta=eta, sigma=sigma, progress=False)
    exact = algorithm_1(law, f, grad_f, n=20_000, rng=np.random.default_rng(0), method="exact", **settings)
    stepped = algorithm_1(law, f, grad_f, COSINE, TIMES, n=800, rng=np.random.default_rng(0), **settings)
    assert exact.targets[0] == pytest.approx(y) and stepped.targets[0] == pytest.approx(y)
    assert exact.reward[-1] == pytest.approx(mean, abs=0.02)
    assert (exact.samples @ theta).var() == pytest.approx(variance, rel=0.05)
    assert stepped.reward[-1] == pytest.approx(mean, rel=0.03)
    assert (stepped.samples @ theta).var() == pytest.approx(variance, rel=0.2)
    other = A[:, 1]
    assert (exact.samples @ other).var() == pytest.approx(scale, rel=0.05)
    assert (stepped.samples @ other).var() == pytest.approx(scale, rel=0.2)
    assert exact.off_support.max() < 1e-14 and stepped.off_support.max() < 1e-13


# --- algorithm 1 --------------------------------------------------------------------------------------------------


PRACTICAL = [(64, 16, 0, 0.5, 0.5, 150), (40, 8, 1, 1.0, 1.0, 100), (20, 3, 2, 0.1, 0.05, 600)]


@pytest.mark.parametrize("D, d, seed, sigma, delta, rounds", PRACTICAL)
def test_the_practical_targets_stop_at_the_regularised_optimum(D, d, seed, sigma, delta, rounds):
    # s = theta^T x stops at 6 / (2 + lambda / rho), lambda = sigma^2 / delta, rho = theta^T Sigma theta, for any covariance.
    basis, theta = subspace(D, d, seed, ratio=3.0)
    C = np.cov(np.random.default_rng(seed).standard_normal((d, 4 * d)))
    law, (f, grad_f) = Subspace(basis, GaussianMixture(np.zeros((1, d)), covs=C[None])), f_1(theta)
    optimum = 6 / (2 + sigma**2 / delta / (theta @ law.cov() @ theta))
    run = algorithm_1(
        law, f, grad_f, rounds=rounds, n=500, rng=np.random.default_rng(0), delta=delta, sigma=sigma, per_sample=False, **EXACT)
    assert (run.means[-50:] @ theta).mean() == pytest.approx(optimum, rel=0.02)


def test_the_plateau_of_the_official_experiment():
    f, grad_f = f_1(THETA)
    runs = [
        algorithm_1(Subspace(A), f, grad_f, rounds=1000, rng=np.random.default_rng(seed), delta=0.2, **EXACT) for seed in (0, 1)
    ]
    for run in runs:
        assert run.reward[0] < 1.5 and run.reward[-200:].mean() == pytest.approx(5.93, abs=0.15)
        assert run.off_support.max() < 1e-14 and len(run.reward) == len(run.seconds) == 1001 and len(run.targets) == 1000
    stepped = algorithm_1(Subspace(A), f, grad_f, COSINE, TIMES, rounds=160, rng=np.random.default_rng(0), delta=0.2, progress=False)
    assert stepped.reward[-60:].mean() == pytest.approx(5.93, abs=0.25)
    assert stepped.off_support.max() < 1e-14
    assert stepped.seconds.sum() > 0


@pytest.mark.parametrize("share", [0.6, 0.9, 0.2])
def test_theorem_2_the_error_shrinks_by_L_over_lambda(share):
    # Mean gradient of a large batch; f_1 with theta in the span: L = 2 and s* = 6 / (2 + lambda).
    theta = A @ np.full(16, 0.25)
    f, grad_f = f_1(theta)
    lam = 2 / share
    optimum = 6 / (2 + lam)
    run = algorithm_1(
        Subspace(A), f, grad_f, rounds=8, n=30_000, rng=np.random.default_rng(0), target="theorem", eta=1 / lam, per_sample=False,
        sigma=0.05, **EXACT,
    )
    error = np.abs(run.means @ theta - optimum)
    K = {0.6: 5, 0.9: 8, 0.2: 2}[share]
    assert (error[K] / error[0]) ** (1 / K) == pytest.approx(share, rel=0.05)


def test_below_L_the_iteration_diverges():
    f, grad_f = f_1(THETA)
    L = 2 / 82
    settings = dict(n=500, target="theorem", per_sample=False, **EXACT)
    run = algorithm_1(Subspace(A), f, grad_f, rounds=40, rng=np.random.default_rng(0), eta=1 / (0.8 * L), **settings)
    error = np.abs(run.means @ THETA - 6 / (2 + 0.8 * L * 82))
    assert error[40] > 100 * error[0]
    assert (error[40] / error[30]) ** 0.1 == pytest.approx(1.25, rel=0.02)
    with pytest.raises(FloatingPointError, match="lambda"), np.errstate(all="ignore"):
        algorithm_1(Subspace(A), f, grad_f, rounds=400, rng=np.random.default_rng(0), eta=1e3 / L, **settings)


def test_on_thick_data_naive_guidance_leaves_the_support_and_look_ahead_does_not():
    law, (f, grad_f) = Subspace(A, thickness=1e-3), f_1(THETA)
    settings = dict(rounds=40, progress=False)
    ours, naive = (
        algorithm_1(law, f, grad_f, COSINE, TIMES, rng=np.random.default_rng(0), delta=delta, guidance=guidance, **settings).off_support
        for guidance, delta in (("look-ahead", 0.2), ("naive", 0.9))
    )
    assert naive[-20:].mean() > 5 * ours[-20:].mean()
    assert ours[-20:].mean() < ours[0] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("method", ["ddim", "heun"])
def test_other_samplers_and_other_processes_run_the_same_algorithm(method):
    f, grad_f = f_1(THETA)
    process = OU(0.5)
    run = algorithm_1(
        Subspace(A), f, grad_f, process, process.times(40, 12.0, 1e-3, "angle"), rounds=3, n=400, rng=np.random.default_rng(0),
        target="theorem", eta=20.0, per_sample=False, method=method, progress=False,
    )
    # mu_1 = eta Sigma grad f(mu_0), from the unguided mean of the same run.
    expected = 20 * A @ A.T @ grad_f(run.means[1][None])[0]
    assert run.means[2] @ THETA == pytest.approx(expected @ THETA, abs=0.05)


def test_a_round_costs_one_evaluation_a_step_and_few_microseconds():
    calls = []

    class Counted(Subspace):
        def tweedie(self, alpha, sigma):
            moments = Subspace.tweedie(self, alpha, sigma)
            return lambda x, g: calls.append(1) or moments(x, g)

    f, grad_f = f_1(THETA)
    algorithm_1(Counted(A), f, grad_f, COSINE, TIMES, rounds=2, rng=np.random.default_rng(0), delta=0.2, progress=False)
    assert len(calls) == 3 * 200


# --- algorithm 2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_sample", [True, False])
def test_with_a_refit_the_mean_passes_the_plateau_and_reaches_the_maximum(per_sample):
    f, grad_f = f_1(THETA)
    run = algorithm_2(
        Subspace(A), f, grad_f, rounds=60, n=256, rng=np.random.default_rng(0), delta=0.2, per_sample=per_sample, **EXACT)
    assert 10 - run.reward_of_mean[-1] < 1e-3 and run.reward[-1] > 9.95
    assert run.law.mean() == pytest.approx(run.law.A @ run.law.A.T @ run.law.mean()) and run.law.cov() == pytest.approx(Subspace(A).cov())
    b = np.full(64, 4.0)
    best = 5 - np.linalg.norm(b - A @ A.T @ b) / 2
    f, grad_f = f_2(b)
    run = algorithm_2(Subspace(A), f, grad_f, rounds=30, n=4096, rng=np.random.default_rng(0), delta=1.0, per_sample=False, **EXACT)
    assert 0 < best - run.reward_of_mean[-1] < 5e-3


def test_stepwise_and_collapsed_refits_agree():
    f, grad_f = f_1(THETA)
    times = COSINE.times(60, spacing="ddpm")
    run = algorithm_2(Subspace(A), f, grad_f, COSINE, times, rounds=40, n=64, rng=np.random.default_rng(0), delta=0.4, progress=False)
    assert 10 - run.reward_of_mean[-1] < 1e-3


def test_refitting_the_mean_is_gradient_ascent_with_step_eta():
    # mu <- mu + eta Sigma grad f(mu), from sample means: compare with the recursion itself.
    f, grad_f = f_1(THETA)
    run = algorithm_2(
        Subspace(A), f, grad_f, rounds=6, n=20_000, rng=np.random.default_rng(0), target="theorem", eta=20.0, per_sample=False, **EXACT)
    s = [run.means[0] @ THETA]
    for _ in range(6):
        s.append(s[-1] + 20 * 2 * (3 - s[-1]) / 82)
    assert run.means @ THETA == pytest.approx(s, abs=0.02)


@pytest.mark.parametrize("K, gap", [(10, 1.25), (100, 0.115)])
def test_theorem_3_closes_the_gap_like_one_over_K(K, gap):
    L = 2 / 82
    eta, lam, w = theorem_3(L, K)
    assert (eta, lam, w) == pytest.approx((2 / (L + 2 * lam), L * np.log(K) / (4 * K), L / (L + 2 * lam)))
    f, grad_f = f_1(THETA)
    run = algorithm_2(
        Subspace(A), f, grad_f, rounds=K, n=4000, rng=np.random.default_rng(0), target="theorem", eta=eta, w=w, per_sample=False, **EXACT)
    assert 10 - run.reward_of_mean[-1] == pytest.approx(gap, rel=0.15)


def test_refitting_the_covariance_on_mean_gradient_batches_stalls():
    f, grad_f = f_1(THETA)
    settings = dict(rounds=100, n=256, rng=np.random.default_rng(0), delta=0.2, per_sample=False, **EXACT)
    run = algorithm_2(Subspace(A), f, grad_f, refit="mean and covariance", **settings)
    assert run.reward_of_mean[-1] < 3
    par = A @ A.T @ THETA
    assert par @ run.law.cov() @ par < 0.1 * (par @ par) ** 2


def test_weights_and_a_refit_of_ones_own(rng):
    f, grad_f = f_1(THETA)
    settings = dict(rounds=4, n=50, delta=0.2, **EXACT)
    seen = []

    def refit(score, samples, weights):
        seen.append((len(samples), weights))
        moments = [Subspace(A).mean()] + [z.mean(0) for z in samples]
        return Subspace(A).moved(weights @ np.array(moments))

    w = lambda k: np.full(k + 1, 1 / (k + 1))
    own = algorithm_2(Subspace(A), f, grad_f, refit=refit, w=w, rng=np.random.default_rng(0), **settings)
    built_in = algorithm_2(Subspace(A), f, grad_f, w=w, rng=np.random.default_rng(0), **settings)
    assert own.samples == pytest.approx(built_in.samples)
    assert [k for k, _ in seen] == [1, 2, 3, 4] and seen[2][1] == pytest.approx(np.full(4, 0.25))
    # All weight on D_0: nothing is learned, and Algorithm 1 comes back.
    frozen = algorithm_2(Subspace(A), f, grad_f, w=0.0, rng=np.random.default_rng(0), **settings)
    plain = algorithm_1(Subspace(A), f, grad_f, rng=np.random.default_rng(0), **settings)
    assert frozen.samples == pytest.approx(plain.samples)
    # The mixture of D_0 and D_1 has the covariance of the law of total variance.
    once = settings | dict(rounds=1)
    both = algorithm_2(Subspace(A), f, grad_f, refit="mean and covariance", w=0.5, rng=np.random.default_rng(0), **once)
    z, _ = Subspace(A).sample(50, np.random.default_rng(0))
    expected = 0.5 * Subspace(A).cov() + 0.5 * np.cov(z.T, bias=True) + 0.25 * np.outer(z.mean(0), z.mean(0))
    assert both.law.cov() == pytest.approx(expected, abs=1e-12)


def test_a_plain_gaussian_is_a_law_too():
    theta = np.array([0.6, 0.8])
    f, grad_f = f_1(theta)
    law = GaussianMixture(np.zeros((1, 2)), covs=np.array([[1.0, 0.3], [0.3, 0.5]])[None])
    settings = dict(n=400, delta=1.0, sigma=1.0, per_sample=False, progress=False)
    run = algorithm_1(law, f, grad_f, COSINE, COSINE.times(100, spacing="ddpm"), rounds=30, rng=np.random.default_rng(0), **settings)
    assert run.off_support is None
    assert run.means[-20:].mean(0) @ theta == pytest.approx(6 / (2 + 1 / (theta @ law.cov() @ theta)), rel=0.05)
    for refit in ("mean", "mean and covariance"):
        again, in_span = (
            algorithm_2(p, f, grad_f, rounds=3, rng=np.random.default_rng(0), refit=refit, method="exact", **settings)
            for p in (law, Subspace(np.eye(2), law))
        )
        assert again.samples == pytest.approx(in_span.samples, abs=1e-9)
        assert again.law.cov() == pytest.approx(in_span.law.cov(), abs=1e-9)


# --- networks and tensors -----------------------------------------------------------------------------------------


def torch_score(law, process, calls=None):
    """The exact score of a Gaussian law as a torch function, counting forward and backward passes."""
    mu, Sigma = torch.tensor(law.mean()), torch.tensor(law.cov())

    def score(x, t):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x = torch.as_tensor(x)
        out = -(x - alpha * mu) @ torch.linalg.inv(alpha**2 * Sigma + sigma**2 * torch.eye(len(mu), dtype=torch.float64))
        if calls is not None:
            calls.append("forward")
            if out.requires_grad:
                out.register_hook(lambda grad: calls.append("backward"))
        return out

    return score


def test_autograd_through_a_network_is_the_closed_form_in_one_forward_and_one_backward_pass(rng):
    law, calls = Subspace(A), []
    x, g, y = rng.standard_normal((6, 64)), rng.standard_normal((6, 64)), rng.standard_normal(6)
    score = torch_score(law, COSINE, calls)
    for beta in ("exact", "official"):
        for t in (0.1, 0.9, TIMES[0]):
            calls.clear()
            learned, closed = look_ahead(score, g, y, COSINE, beta=beta), look_ahead(law, g, y, COSINE, beta=beta)
            assert learned(x, t) == pytest.approx(closed(x, t), rel=1e-8, abs=1e-8)
            assert calls == ["forward", "backward"]
            tensor = learned(torch.tensor(x), t)
            assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
            assert tensor.numpy() == pytest.approx(closed(x, t), rel=1e-8, abs=1e-8)
    mean = look_ahead(score, g[0], 1.0, COSINE)(torch.tensor(x), 0.3)
    assert mean.numpy() == pytest.approx(look_ahead(law, g[0], 1.0, COSINE)(x, 0.3), rel=1e-8, abs=1e-8)
    calls.clear()
    naive = gradient_guidance(score, g, y, COSINE)(torch.tensor(x), 0.3).numpy()
    assert naive == pytest.approx(gradient_guidance(law, g, y, COSINE)(x, 0.3), rel=1e-9)
    assert calls == ["forward"]


@pytest.mark.parametrize("algorithm", [algorithm_1, algorithm_2])
@pytest.mark.parametrize("per_sample", [True, False])
def test_tensors_walk_the_same_rounds_as_arrays(algorithm, per_sample):
    law, times = Subspace(A), COSINE.times(10, spacing="ddpm")
    f, grad_f = f_1(THETA)
    theta = torch.tensor(THETA)
    f_t, grad_t = lambda x: 10 - (x @ theta - 3) ** 2, lambda x: -2 * (x @ theta - 3)[:, None] * theta
    for aim in (dict(target="practical", delta=0.2), dict(target="theorem", eta=5.0)):
        settings = dict(rounds=2, n=6, per_sample=per_sample, progress=False, **aim)
        arrays = algorithm(law, f, grad_f, COSINE, times, rng=np.random.default_rng(0), **settings)
        score, start = torch_score(law, COSINE), lambda n, rng: torch.tensor(COSINE.sigma(times[0]) * rng.standard_normal((n, 64)))
        extra = {}
        if algorithm is algorithm_2:
            moved = lambda samples, weights: law.moved(sum(w * np.asarray(z.mean(0)) for w, z in zip(weights[1:], samples)))
            extra["refit"] = lambda score, samples, weights: torch_score(moved(samples, weights), COSINE)
        tensors = algorithm(
            score, f_t, grad_t, COSINE, times, rng=np.random.default_rng(0), start=start, mean=law.mean(), cov=law.cov(),
            off_support=lambda z: law.off_support(z.numpy()), **settings, **extra,
        )
        assert isinstance(tensors.samples, torch.Tensor)
        assert tensors.samples.numpy() == pytest.approx(arrays.samples, abs=1e-7)
        assert tensors.reward == pytest.approx(arrays.reward) and tensors.targets == pytest.approx(arrays.targets)


def test_a_score_network_is_taken_as_it_is(rng):
    # Before training it predicts v = 0, so that score = -x, E[x_0 | x_t] = alpha x and its gradient is alpha g.
    network = learn.ScoreNetwork(5, (), COSINE, hidden=8, depth=2, seed=0)
    x, g, t = rng.standard_normal((4, 5)), rng.standard_normal(5), 0.4
    alpha, h = COSINE.alpha(t), COSINE.sigma(t) ** 2
    expected = -x + (alpha * (1.5 - alpha * x @ g) / (0.01 + h * g @ g))[:, None] * g
    assert look_ahead(network, g, 1.5, COSINE)(x, t) == pytest.approx(expected, rel=1e-5)
    f, grad_f = f_1(g)
    run = algorithm_1(network, f, grad_f, COSINE, COSINE.times(10, spacing="ddpm"), rounds=1, n=4, rng=rng, delta=0.2, progress=False)
    assert run.samples.shape == (4, 5) and run.off_support is None


# --- bad input ----------------------------------------------------------------------------------------------------

F, GRAD = f_1(THETA)
RUN = dict(rounds=1, n=2, delta=0.2, progress=False)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda rng: look_ahead(Subspace(A), 1.0, 1.0, COSINE), ValueError, "g must be"),
        (lambda rng: look_ahead(Subspace(A), np.full(64, np.nan), 1.0, COSINE), ValueError, "g must be finite"),
        (lambda rng: look_ahead(Subspace(A), np.zeros((3, 64)), np.zeros(2), COSINE), ValueError, "y must be"),
        (lambda rng: look_ahead(Subspace(A), THETA, 1.0, COSINE, sigma=0.0), ValueError, "sigma must be"),
        (lambda rng: look_ahead(Subspace(A), THETA, 1.0, COSINE, beta="naive"), ValueError, "beta must be"),
        (lambda rng: gradient_guidance(Subspace(A), THETA, 1.0, COSINE, beta="exact"), ValueError, "beta must be"),
        (lambda rng: gradient_guidance(Subspace(A), THETA, None, COSINE), ValueError, "beta must be"),
        (lambda rng: look_ahead(Subspace(A), THETA, 1.0, COSINE)(np.zeros((1, 64)), 1.0), ValueError, "alpha"),
        (lambda rng: look_ahead(3.0, THETA, 1.0, COSINE), TypeError, "law must be"),
        (lambda rng: look_ahead(lambda x, t: -x.detach(), THETA, 1.0, COSINE)(np.zeros((1, 64)), 0.5), TypeError, "differentiate"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, rng=rng, **RUN), ValueError, "process and times"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=None, **RUN), TypeError, "rng"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES[::-1], rng=rng, **RUN), ValueError, "times"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, **(RUN | dict(rounds=0))), ValueError, "rounds"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, **(RUN | dict(n=0))), ValueError, "n must be"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, sigma=-1.0, **RUN), ValueError, "sigma"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, eta=1.0, **RUN), ValueError, "needs delta"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, target="theorem", **RUN), ValueError, "needs eta"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, target="best", **RUN), ValueError, "target"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, guidance="none", **RUN), ValueError, "guidance"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, method="ode", **RUN), ValueError, "method"),
        (lambda rng: algorithm_1(Subspace(A), F, GRAD, rng=rng, method="exact", guidance="naive", **RUN), ValueError, "exact"),
        (lambda rng: algorithm_1(GaussianMixture(np.eye(64)), F, GRAD, rng=rng, method="exact", **RUN), ValueError, "law.gaussian"),
        (lambda rng: algorithm_1(Subspace(A), lambda x: x, GRAD, COSINE, TIMES, rng=rng, **RUN), ValueError, "f must return"),
        (lambda rng: algorithm_1(Subspace(A), F, F, COSINE, TIMES, rng=rng, **RUN), ValueError, "grad_f must return"),
        (lambda rng: algorithm_1(lambda x, t: -x, F, GRAD, COSINE, TIMES, rng=rng, **RUN), TypeError, "start"),
        (lambda rng: algorithm_2(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, w=1.5, **RUN), ValueError, "w must be"),
        (lambda rng: algorithm_2(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, w=lambda k: np.ones(k + 1), **RUN), ValueError, "sum one"),
        (lambda rng: algorithm_2(Subspace(A), F, GRAD, COSINE, TIMES, rng=rng, refit="all", **RUN), ValueError, "refit"),
        (lambda rng: algorithm_2(lambda x, t: -x, F, GRAD, COSINE, TIMES, rng=rng, **RUN), ValueError, "Gaussian"),
        (lambda rng: theorem_3(0.0, 10), ValueError, "L must be"),
        (lambda rng: theorem_3(1.0, 1), ValueError, "rounds"),
    ],
)
def test_bad_input_names_the_argument(call, error, message, rng):
    with pytest.raises(error, match=message):
        call(rng)


def test_the_bar_can_be_switched_off_and_import_stays_light():
    import subprocess
    import sys

    code = "import sys, guidance.optimize; print([m for m in ('torch', 'scipy', 'matplotlib', 'tqdm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert optimize.Rounds.__dataclass_params__.frozen


def test_a_learned_score_is_guided_with_the_safe_beta_unless_told():
    def learned(x, t):
        return -0.3 * x * torch.tanh(x).abs()  # no score of any law: its "covariance" need not be positive

    x, g = np.random.default_rng(0).standard_normal((5, 3)), np.array([1.0, -0.5, 0.2])
    assert look_ahead(learned, g, 1.0, OU())(x, 0.5) == pytest.approx(look_ahead(learned, g, 1.0, OU(), beta="official")(x, 0.5))
    p = GaussianMixture(np.zeros((1, 3)), covs=np.array([1.0, 2.0, 0.3])[None])
    assert look_ahead(p, g, 1.0, OU())(x, 0.5) == pytest.approx(look_ahead(p, g, 1.0, OU(), beta="exact")(x, 0.5))
    assert not np.allclose(look_ahead(p, g, 1.0, OU())(x, 0.5), look_ahead(p, g, 1.0, OU(), beta="official")(x, 0.5))


def test_a_refit_on_samples_that_have_collapsed_stays_a_law():
    law = Subspace(np.eye(4)[:, :2])
    moved = law.moved(np.ones(4), np.diag([1.0, 0.0, 0.0, 0.0]))
    assert np.diag(moved.cov()) == pytest.approx([1, 1e-12, 0, 0], abs=1e-13)
