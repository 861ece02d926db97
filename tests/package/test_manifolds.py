"""Laws on subspaces and spheres: scores against densities, Tweedie's moments against quadrature and differences, bad input."""
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance import OU, GaussianMixture, sample
from guidance.manifolds import Sphere, Subspace, _bessel_ratio, tweedie


def orthonormal(D, d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((D, d)))[0]


def latents(d, seed=0):
    """A latent law of every shape of covariance."""
    rng = np.random.default_rng(seed)
    means, roots = 2 * rng.standard_normal((3, d)), rng.standard_normal((3, d, d)) / np.sqrt(d)
    full = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)
    weights = [0.5, 0.3, 0.2]
    return {
        "normal": None,
        "one full": GaussianMixture(means[:1], covs=full[:1]),
        "isotropic": GaussianMixture(means, weights, np.array([[0.1], [0.4], [1.0]])),
        "diagonal": GaussianMixture(means, weights, rng.uniform(0.1, 1, (3, d))),
        "shared full": GaussianMixture(means, weights, full[0]),
        "full": GaussianMixture(means, weights, full),
        "one dead": GaussianMixture(means, [0.5, 0.0, 0.5], 0.3),
    }


LATENTS = list(latents(3))


def differences(f, x, step=1e-5):
    """The gradient of f (n, D) -> (n,) by central differences."""
    return np.stack([(f(x + e) - f(x - e)) / (2 * step) for e in step * np.eye(x.shape[1])], 1)


@pytest.mark.parametrize("name", LATENTS)
@pytest.mark.parametrize("thickness", [0.0, 0.05])
def test_a_subspace_is_the_same_law_as_a_thin_mixture_in_the_whole_space(name, thickness, rng):
    # The dense mixture has covariances A C A^T + thickness (I - A A^T), decomposed by other code.
    D, d, alpha, sigma = 7, 3, 0.8, 0.6
    A, centre = orthonormal(D, d), rng.standard_normal(D)
    law = Subspace(A, latents(d)[name], thickness, centre)
    latent = law.latent
    covs = A @ latent.covs.matrices(d) @ A.T + thickness * (np.eye(D) - A @ A.T)
    noised = GaussianMixture(alpha * (centre + latent.means @ A.T), latent.weights, alpha**2 * covs + sigma**2 * np.eye(D))
    x, g = 3 * rng.standard_normal((40, D)), rng.standard_normal((40, D))
    ours = law.noised(alpha, sigma)
    assert ours.log_prob(x) == pytest.approx(noised.log_prob(x), rel=1e-11)
    assert ours.score(x) == pytest.approx(noised.score(x), rel=1e-9, abs=1e-10)
    score, value, gradient = law.tweedie(alpha, sigma)(x, g)
    assert score == pytest.approx(noised.score(x), rel=1e-9, abs=1e-10)
    denoised = (x + sigma**2 * noised.score(x)) / alpha
    assert law.denoiser(x, alpha, sigma) == pytest.approx(denoised, abs=1e-10)
    assert value == pytest.approx((denoised * g).sum(1), abs=1e-9)
    hessian_g = np.einsum("nij,nj->ni", noised.hessian(x), g)
    assert np.broadcast_to(gradient, x.shape) == pytest.approx((g + sigma**2 * hessian_g) / alpha, abs=1e-9)
    assert law.mean() == pytest.approx(centre + A @ latent.mean())
    assert law.cov() == pytest.approx(A @ latent.cov() @ A.T + thickness * (np.eye(D) - A @ A.T), abs=1e-12)


@pytest.mark.parametrize("name", [name for name in LATENTS if name != "normal"])
def test_moments_of_a_plain_mixture_are_the_gradient_they_claim_to_be(name, rng):
    p, alpha, sigma = latents(3)[name], 0.6, 0.8
    x, g = rng.standard_normal((30, 3)), rng.standard_normal((30, 3))
    moments = tweedie(p, alpha, sigma)
    score, value, gradient = moments(x, g)
    assert score == pytest.approx(p.noised(alpha, sigma).score(x), abs=1e-11)
    by_differences = differences(lambda y: moments(y, g)[1], x)
    assert np.broadcast_to(gradient, x.shape) == pytest.approx(by_differences, abs=1e-7)
    # E[x_0 | x_t] once more, by importance weights over many draws of the law itself.
    x_0, _ = p.sample(200_000, rng)
    weight = np.exp(-((x[0] - alpha * x_0) ** 2).sum(1) / (2 * sigma**2))
    assert value[0] == pytest.approx((weight @ x_0) @ g[0] / weight.sum(), abs=0.05)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(0, 10), st.floats(-8, -0.01), st.integers(0, 2**32 - 1))
def test_the_gradient_stays_in_the_span_whatever_the_law_and_the_noise(d, spare, log_alpha, seed):
    # Theorem 1 of Guo et al.: any latent law, any g, points far off the subspace.
    rng = np.random.default_rng(seed)
    A = orthonormal(d + spare, d, seed)
    K = int(rng.integers(1, 4))
    latent = GaussianMixture(3 * rng.standard_normal((K, d)), rng.dirichlet(np.ones(K)), rng.uniform(0.01, 4, (K, 1)))
    x, g = 5 * rng.standard_normal((2, 20, d + spare))
    alpha = np.exp(log_alpha)
    gradient = np.broadcast_to(Subspace(A, latent).tweedie(alpha, np.sqrt(1 - alpha**2))(x, g)[2], x.shape)
    off = np.linalg.norm(gradient - gradient @ A @ A.T, axis=1)
    assert np.all(off <= 1e-12 * np.linalg.norm(gradient, axis=1))


def test_leading_axes_directions_and_precisions(rng):
    law = Subspace(orthonormal(6, 2), latents(2)["full"], 0.1)
    x, g = rng.standard_normal((4, 5, 6)), rng.standard_normal((5, 6))
    score, value, gradient = law.tweedie(0.8, 0.6)(x, g)
    assert score.shape == gradient.shape == x.shape and value.shape == (4, 5)
    one = law.tweedie(0.8, 0.6)(x[2], g)
    assert score[2] == pytest.approx(one[0]) and value[2] == pytest.approx(one[1]) and gradient[2] == pytest.approx(one[2])
    assert law.score(x.astype(np.float32)).dtype == np.float32
    assert law.score(x.astype(np.float32)) == pytest.approx(law.score(x), rel=1e-4, abs=1e-4)
    assert law.noised(0.5, 0.5).denoiser(x[0].astype(np.float32), 0.8, 0.6).dtype == np.float32


@pytest.mark.parametrize("name", LATENTS)
def test_draws_have_the_moments_and_the_support_they_should(name):
    rng = np.random.default_rng(1)
    A, centre = orthonormal(5, 2), np.arange(5.0)
    for thickness in (0.0, 0.3):
        law = Subspace(A, latents(2)[name], thickness, centre)
        x, labels = law.sample(100_000, rng)
        assert x.mean(0) == pytest.approx(law.mean(), abs=0.03)
        assert np.cov(x.T) == pytest.approx(law.cov(), abs=0.1)
        assert set(labels) <= set(law.classes)
        off = (x - centre) - (x - centre) @ A @ A.T
        assert (off**2).sum(1).mean() == pytest.approx(3 * thickness, rel=0.02, abs=1e-25)


def test_the_gaussian_fit_and_a_move_change_the_moments_they_name():
    law = Subspace(orthonormal(6, 3), latents(3)["full"], 0.2)
    fit = law.gaussian()
    assert fit.latent.K == 1 and fit.mean() == pytest.approx(law.mean()) and fit.cov() == pytest.approx(law.cov())
    mean, C = np.arange(6.0), np.diag([1.0, 2, 3, 4, 5, 6])
    moved = fit.moved(mean)
    assert moved.mean() == pytest.approx(mean) and moved.cov() == pytest.approx(law.cov())
    refitted = fit.moved(mean, C)
    assert refitted.mean() == pytest.approx(mean)
    assert refitted.A.T @ refitted.cov() @ refitted.A == pytest.approx(law.A.T @ C @ law.A)


def test_off_support_ratio_is_that_of_the_metrics():
    from guidance import metrics

    rng = np.random.default_rng(0)
    law, x = Subspace(orthonormal(8, 3)), rng.standard_normal((20, 8))
    assert law.off_support(x) == pytest.approx(metrics.off_support_ratio(x, law.A), rel=1e-12)
    assert law.off_support(np.zeros((1, 8)))[0] == 0
    assert np.isinf(Subspace(np.eye(3)[:, :1]).off_support(np.array([[0.0, 1.0, 0.0]])))


def test_nearly_orthonormal_columns_are_made_exact():
    A = orthonormal(64, 16).astype(np.float32).astype(float)
    law = Subspace(A)
    assert np.abs(law.A.T @ law.A - np.eye(16)).max() < 1e-14
    assert np.abs(law.A - A).max() < 1e-6


# --- the sphere ---


@pytest.mark.parametrize("d", [2, 3, 16, 64, 784])
def test_bessel_ratio_and_its_derivative_against_fifty_digits(d):
    nu = mpmath.mpf(d) / 2 - 1
    kappa = np.geomspace(1e-12, 1e9, 40)
    ratio, slope, over = _bessel_ratio(d, kappa)
    with mpmath.workdps(50):
        for k, r, s, o in zip(kappa, ratio, slope, over):
            exact = mpmath.besseli(nu + 1, mpmath.mpf(k)) / mpmath.besseli(nu, mpmath.mpf(k))
            exact_slope = 1 - exact**2 - (d - 1) * exact / mpmath.mpf(k)
            assert r == pytest.approx(float(exact), rel=1e-12) and o == pytest.approx(float(exact / mpmath.mpf(k)), rel=1e-12)
            assert s == pytest.approx(float(exact_slope), abs=(1e-12 if d <= 64 else 2e-9) / max(1, k))
    assert _bessel_ratio(d, np.zeros(1))[2] == pytest.approx(1 / d)


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("thickness", [0.0, 0.02])
def test_the_sphere_against_quadrature_over_its_polar_angle(d, thickness, rng):
    alpha, sigma, radius = 0.8, 0.5, 1.3
    law, v = Sphere(d, radius, thickness), alpha**2 * thickness + sigma**2
    x = rng.standard_normal((12, d))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    phi, weights = np.pi / 2 * (nodes + 1), weights * np.sin(np.pi / 2 * (nodes + 1)) ** (d - 2)

    def log_prob(x):
        size = np.linalg.norm(x, axis=1)[:, None]
        distance = size**2 - 2 * alpha * radius * size * np.cos(phi) + (alpha * radius) ** 2
        return np.log((weights * np.exp(-distance / (2 * v))).sum(1))

    by_differences = differences(log_prob, x)
    assert law.noised(alpha, sigma).score(x) == pytest.approx(by_differences, abs=1e-8)
    g = rng.standard_normal((12, d))
    moments = law.tweedie(alpha, sigma)
    score, value, gradient = moments(x, g)
    assert score == pytest.approx(by_differences, abs=1e-8)
    assert value == pytest.approx(((x + sigma**2 * by_differences) / alpha * g).sum(1), abs=1e-8)
    assert gradient == pytest.approx(differences(lambda y: moments(y, g)[1], x), abs=1e-8)


def test_on_the_sphere_the_gradient_becomes_tangential_as_the_noise_goes(rng):
    law, g = Sphere(64), rng.standard_normal((5, 64))
    x, _ = law.sample(5, rng)
    _, value, gradient = law.tweedie(1.0, 1e-4)(x, g)
    assert value == pytest.approx((x * g).sum(1), abs=1e-4)
    assert gradient == pytest.approx(g - (g * x).sum(1, keepdims=True) * x, abs=1e-4)
    assert np.all(np.isfinite(law.tweedie(0.5, 0.5)(np.zeros((1, 64)), g[:1])[2]))


def test_unguided_samples_of_the_sphere_land_on_it():
    process, law = OU(), Sphere(8)
    score = lambda x, t: law.noised(process.alpha(t), process.sigma(t)).score(x)
    x = sample(score, process, np.random.default_rng(0).standard_normal((500, 8)), process.times(40, t_min=1e-3, spacing="angle"), "rk4")
    assert law.off_support(x).std() == pytest.approx(process.sigma(1e-3), rel=0.15)
    draws, _ = law.sample(50_000, np.random.default_rng(1))
    assert np.abs(law.off_support(draws)).max() < 1e-14 and np.cov(draws.T) == pytest.approx(law.cov(), abs=5e-3)
    thick, _ = Sphere(4, 2.0, 0.1).sample(100_000, np.random.default_rng(2))
    assert np.cov(thick.T) == pytest.approx(Sphere(4, 2.0, 0.1).cov(), abs=0.02)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Subspace(np.ones((4, 2))), "orthonormal columns"),
        (lambda: Subspace(np.eye(4)[:2]), "use A.T"),
        (lambda: Subspace(np.eye(4)[:, :2], GaussianMixture(np.zeros((1, 3)))), "latent must be"),
        (lambda: Subspace(np.eye(4)[:, :2], thickness=-1.0), "thickness"),
        (lambda: Subspace(np.eye(4)[:, :2], centre=np.zeros(3)), "centre"),
        (lambda: Subspace(np.eye(4)[:, :2]).score(np.zeros((1, 4))), "noise it first"),
        (lambda: Subspace(np.eye(4)[:, :2]).log_prob(np.zeros((1, 4))), "noise it first"),
        (lambda: Subspace(np.eye(4)[:, :2]).tweedie(1.0, 0.0), "sigma must be > 0"),
        (lambda: Subspace(np.eye(4)[:, :2]).noised(0.5, 0.5).score(np.zeros((1, 3))), "D = 4"),
        (lambda: Subspace(np.eye(4)[:, :2]).noised(0.5, 0.5).score(np.full((1, 4), np.nan)), "NaN"),
        (lambda: Sphere(1), "d must be"),
        (lambda: Sphere(3, -1.0), "radius"),
        (lambda: Sphere(3).score(np.zeros((1, 3))), "sigma must be > 0"),
        (lambda: Sphere(3).noised(0.5, 0.5).score(np.zeros((1, 4))), "d = 3"),
        (lambda: tweedie(GaussianMixture(np.zeros((1, 2))), 0.0, 0.0), "noise level"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_score_is_not_a_law():
    with pytest.raises(TypeError, match="GaussianMixture"):
        tweedie(lambda x, t: x, 0.5, 0.5)
