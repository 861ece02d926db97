"""Noising processes: closed forms, inverse clocks, grids, conversions, bad input."""
import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from guidance import OU, VE, VP, Cosine
from guidance.process import denoiser, noise, score_from_velocity, velocity

PROCESSES = [OU(), OU(0.5), VP(), VP(1.0, 1.0), VE(), Cosine(), Cosine(0.1)]


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_alpha_and_sigma_solve_the_moment_equations_of_the_sde(process):
    # dX = f X dt + g dB:  d alpha / dt = f alpha,  d sigma^2 / dt = 2 f sigma^2 + g^2
    T = 0.99 if isinstance(process, Cosine) else 1.0  # the cosine drift is infinite at 1

    def moments(t, y):
        f, g = process.drift(t), process.diffusion(t)
        return [f * y[0], 2 * f * y[1] + g**2]

    alpha, variance = solve_ivp(moments, (0, T), [1.0, 0.0], rtol=1e-11, atol=1e-13).y[:, -1]
    assert process.alpha(T) == pytest.approx(alpha, rel=1e-9)
    assert process.sigma(T) ** 2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_time_inverts_angle_from_the_first_instant_to_the_end(process):
    t = np.concatenate([np.geomspace(1e-9, 1e-2, 8), np.linspace(0.02, min(process.default_T, 10), 40)])
    assert process.time(process.angle(t)) == pytest.approx(t, rel=1e-7)
    assert process.time(0.0) == 0


def test_two_clocks_of_ornstein_uhlenbeck_differ_by_a_factor_two():
    t = np.linspace(0, 5, 11)
    assert OU(0.5).alpha(2 * t) == pytest.approx(OU().alpha(t), rel=1e-15)
    assert OU(0.5).sigma(2 * t) == pytest.approx(OU().sigma(t), rel=1e-15)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("spacing", ["uniform", "angle", "log-snr"])
def test_grids_decrease_include_both_ends_and_are_even_in_their_variable(process, spacing):
    T, t_min = process.default_T, 1e-3
    times = process.times(50, t_min=t_min, spacing=spacing)
    assert times.shape == (51,) and times[0] == T and times[-1] == t_min
    assert np.all(np.diff(times) < 0)
    variable = {"uniform": lambda t: t, "angle": process.angle, "log-snr": process.log_snr}[spacing](times)
    steps = np.diff(variable)
    assert steps == pytest.approx(np.full(50, steps.mean()), rel=1e-5)


def test_numbers_give_numbers_and_arrays_give_arrays():
    for process in PROCESSES:
        assert np.ndim(process.alpha(0.3)) == np.ndim(process.sigma(0.3)) == 0
        assert process.alpha(np.array([0.1, 0.2])).shape == (2,)


def test_the_four_faces_of_a_score_agree():
    rng = np.random.default_rng(0)
    x, score = rng.standard_normal((2, 7, 3))
    for process in PROCESSES:
        alpha, sigma = process.alpha(0.4), process.sigma(0.4)
        x_0, eps, v = denoiser(score, x, alpha, sigma), noise(score, sigma), velocity(score, x, alpha, sigma)
        assert alpha * x_0 + sigma * eps == pytest.approx(x, rel=1e-12)
        assert -sigma * x_0 + alpha * eps == pytest.approx(v, rel=1e-12)
        assert score_from_velocity(v, x, alpha, sigma) == pytest.approx(score, rel=1e-10)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: OU().alpha(-0.1), "t must be"),
        (lambda: OU().sigma(np.array([0.1, np.nan])), "t must be"),
        (lambda: OU().times(0), "steps"),
        (lambda: OU().times(2.5), "steps"),
        (lambda: OU().times(5, T=1.0, t_min=2.0), "t_min"),
        (lambda: OU().times(5, spacing="cosine"), "spacing"),
        (lambda: OU().times(5, spacing="log-snr"), "t_min > 0"),
        (lambda: OU(-1.0), "rate"),
        (lambda: VP(2.0, 1.0), "beta_min"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_defaults_are_the_published_schedules():
    # VP: beta from 0.1 to 20 (Song et al. 2021, appendix C), so that the integral over [0, 1] is 10.05.
    assert (OU().default_T, VP().default_T, VE().default_T) == (10.0, 1.0, 80.0)
    assert VP().alpha(1.0) == pytest.approx(np.exp(-10.05 / 2), rel=1e-14)
    assert VP().diffusion(np.array([0.0, 1.0])) ** 2 == pytest.approx([0.1, 20.0], rel=1e-14)
    assert [process.times(4)[0] for process in (OU(), VP(), VE())] == [10.0, 1.0, 80.0]


def test_sigma_and_the_inverse_clock_keep_their_digits_at_both_ends():
    t = 1e-20
    assert OU().sigma(t) == pytest.approx(np.sqrt(2 * t), rel=1e-14, abs=0)
    assert VP().sigma(t) == pytest.approx(np.sqrt(0.1 * t), rel=1e-14, abs=0)
    early = np.geomspace(1e-14, 1e-3, 12)
    assert OU().time(OU().angle(early)) == pytest.approx(early, rel=1e-13, abs=0)
    assert OU().time(OU().angle(10.0)) == pytest.approx(10.0, rel=1e-11, abs=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: OU().alpha(np.inf), "t must be"),
        (lambda: OU().alpha(np.nan), "t must be"),
        (lambda: VP().sigma(np.array([0.1, np.inf])), "t must be"),
        (lambda: VE().diffusion(np.array([0.1, -0.1])), "t must be"),
        (lambda: OU().times(5, t_min=-0.5), "t_min"),
        (lambda: OU().times(5, T=np.inf), "T=inf"),
        (lambda: OU().times(5, T=1.0, t_min=1.0), "t_min"),
        (lambda: OU(np.inf), "rate"),
        (lambda: OU(0.0), "rate"),
        (lambda: VP(0.0, 1.0), "beta_min"),
        (lambda: VP(1.0, np.inf), "beta_min"),
    ],
)
def test_infinite_and_boundary_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("steps", [20, 200, 1000])
@pytest.mark.parametrize("offset", [0.008, 0.05])
def test_cosine_walks_the_grid_of_ddpm_code(steps, offset):
    # The noise rates as that code computes them, clipped at 0.999, and their running product.
    u = (np.linspace(0, 1, steps + 1) + offset) / (1 + offset) * np.pi / 2
    betas = np.clip(1 - np.cos(u[1:]) ** 2 / np.cos(u[:-1]) ** 2, 0, 0.999)
    process = Cosine(offset)
    times = process.times(steps, spacing="ddpm")
    assert process.alpha(times[:-1]) ** 2 == pytest.approx(np.cumprod(1 - betas)[::-1], rel=1e-11, abs=0)
    assert times[1:] == pytest.approx(np.arange(steps)[::-1] / steps, abs=1e-15) and times[-1] == 0


def test_cosine_is_the_schedule_of_the_official_experiments():
    process = Cosine()
    assert process.times(200, spacing="ddpm")[0] == process.default_T == process.times(7)[0]
    assert process.alpha(process.default_T) == pytest.approx(2.5e-4, rel=0.02)
    assert process.sigma(1 / 200) ** 2 == pytest.approx(2.55e-4, rel=1e-3)
    assert (process.alpha(0.0), process.alpha(1.0), process.sigma(0.0), process.sigma(1.0)) == pytest.approx((1, 0, 0, 1), abs=1e-16)
    t = 0.4
    assert process.alpha(t) == pytest.approx(np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2), rel=1e-14)


def test_cosine_keeps_its_digits_at_both_ends():
    process = Cosine()
    with mpmath.workdps(40):
        u = lambda t: (mpmath.mpf(t) + mpmath.mpf(process.offset)) / (1 + mpmath.mpf(process.offset)) * mpmath.pi / 2
        for t in (1e-15, 1e-9, 1e-3, 0.5, 0.999, 1 - 1e-9):
            alpha = mpmath.cos(u(t)) / mpmath.cos(u(0))
            assert process.alpha(t) == pytest.approx(float(alpha), rel=1e-14, abs=0)
            assert process.sigma(t) == pytest.approx(float(mpmath.sqrt(1 - alpha**2)), rel=1e-14, abs=0)
    early = np.geomspace(1e-14, 1e-3, 12)
    assert process.time(process.angle(early)) == pytest.approx(early, rel=1e-12, abs=0)
    assert process.time(np.pi / 2) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Cosine(0.0), "offset"),
        (lambda: Cosine(np.inf), "offset"),
        (lambda: Cosine().alpha(1.01), r"\[0, 1\]"),
        (lambda: Cosine().sigma(np.array([0.5, 2.0])), r"\[0, 1\]"),
        (lambda: Cosine().drift(-0.1), "t must be"),
        (lambda: Cosine().times(10, T=0.9, spacing="ddpm"), "own ends"),
        (lambda: Cosine().times(10, t_min=0.1, spacing="ddpm"), "own ends"),
        (lambda: Cosine().times(0, spacing="ddpm"), "steps"),
        (lambda: OU().times(10, spacing="ddpm"), "spacing"),
    ],
)
def test_cosine_refuses_bad_input_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
