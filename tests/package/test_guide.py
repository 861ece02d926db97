"""Guided fields: one formula three ways, strengths and sweeps, the converter, bad input."""
import numpy as np
import pytest

from guidance import OU, VE, GaussianMixture, cfg, classifier_guidance, convert

RING = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
P = GaussianMixture(RING, np.arange(1, 9) / 36, np.linspace(0.05, 0.2, 8)[:, None], np.arange(8) % 2)
X = np.random.default_rng(0).standard_normal((200, 2)) * 2


def by_hand(p, label, w, process, x, t):
    """(1 + w) grad log p(x | c) - w grad log p(x) by central differences of log-densities."""
    law, h = p.noised(process.alpha(t), process.sigma(t)), 1e-5
    value = lambda y: (1 + w) * law.given(label).log_prob(y) - w * law.log_prob(y)
    return np.stack([(value(x + e) - value(x - e)) / (2 * h) for e in h * np.eye(p.d)], 1)


@pytest.mark.parametrize("process", [OU(), VE()], ids=repr)
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0, 10.0, -1.0])
@pytest.mark.parametrize("t", [0.0, 0.05, 1.0])
def test_cfg_is_the_gradient_it_claims_to_be(process, w, t):
    guided = cfg(P, 1, w, process)(X, t)
    assert guided == pytest.approx(by_hand(P, 1, w, process, X, t), rel=1e-5, abs=2e-5 * (1 + abs(w)))


@pytest.mark.parametrize("w", [0.0, 0.7, 5.0])
def test_classifier_guidance_and_combined_fields_are_the_same_field(w):
    process = OU()
    exact = cfg(P, 0, w, process)
    cond = lambda x, t: P.given(0).noised(process.alpha(t), process.sigma(t)).score(x)
    uncond = lambda x, t: P.noised(process.alpha(t), process.sigma(t)).score(x)
    for t in (0.01, 0.3, 2.0):
        scale = np.abs(exact(X, t)).max()
        assert np.abs(classifier_guidance(P, 0, w, process)(X, t) - exact(X, t)).max() < 1e-11 * scale
        assert np.abs(cfg.combine(cond, uncond, w)(X, t) - exact(X, t)).max() < 1e-11 * scale


def test_no_guidance_is_the_class_and_minus_one_is_the_mixture():
    process = OU()
    law = P.noised(process.alpha(0.2), process.sigma(0.2))
    assert cfg(P, 1, 0.0, process)(X, 0.2) == pytest.approx(law.given(1).score(X), rel=1e-10)
    assert cfg(P, 1, -1.0, process)(X, 0.2) == pytest.approx(law.score(X), rel=1e-9, abs=1e-9)


def test_a_sweep_is_the_single_strengths_side_by_side():
    process, w = OU(), np.array([0.0, 1.0, 4.0, 30.0])
    for p in (P, GaussianMixture(np.eye(9), covs=np.tile(np.eye(9) + 0.1, (9, 1, 1)), labels=np.arange(9) % 2)):
        x = np.random.default_rng(1).standard_normal((50, p.d))
        sweep = cfg(p, 1, w, process)
        same_points = sweep(x, 0.3)
        assert same_points.shape == (4, 50, p.d)
        own_points = sweep(same_points, 0.3)
        for i, strength in enumerate(w):
            single = cfg(p, 1, strength, process)
            assert same_points[i] == pytest.approx(single(x, 0.3), rel=1e-11, abs=1e-11)
            assert own_points[i] == pytest.approx(single(same_points[i], 0.3), rel=1e-11, abs=1e-11)


def test_a_strength_for_each_point_and_one_that_depends_on_time():
    process = OU()
    w = np.linspace(0, 5, len(X))
    each = cfg(P, 1, w[:, None], process)(X, 0.3)
    assert each[7] == pytest.approx(cfg(P, 1, w[7], process)(X[7:8], 0.3)[0], rel=1e-12)
    interval = cfg(P, 1, lambda t: 3.0 if 0.1 < t < 1 else 0.0, process)
    assert interval(X, 0.5) == pytest.approx(cfg(P, 1, 3.0, process)(X, 0.5))
    assert interval(X, 2.0) == pytest.approx(cfg(P, 1, 0.0, process)(X, 2.0))


def test_one_class_alone_has_nothing_to_be_guided_from():
    p = GaussianMixture(RING, labels=np.zeros(8, int))
    assert cfg(p, 0, 9.0, OU())(X, 0.3) == pytest.approx(p.noised(OU().alpha(0.3), OU().sigma(0.3)).score(X))


def test_guided_score_costs_little_more_than_a_score():
    # Counted, not timed: one table of exponentials for both scores and for all strengths.
    counted = []
    exp = np.exp

    class Counting:
        def __getattr__(self, name):
            return getattr(np, name)

        def exp(self, a, *rest, **more):
            counted.append(np.size(a))
            return exp(a, *rest, **more)

    from guidance import kernels

    kernels.np, before = Counting(), kernels.np
    try:
        P.guided_score(X, 1, np.arange(10.0))
    finally:
        kernels.np = before
    assert sum(counted) == P.K * len(X)


def test_convert_knows_both_formulas():
    cond, uncond = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    w = 2.5
    g = convert(w, from_="w", to="scale")
    assert uncond + g * (cond - uncond) == pytest.approx(cond + w * (cond - uncond))
    assert convert(g, from_="scale", to="eta") == w
    assert convert(7.5, from_="scale", to="w") == 6.5


@pytest.mark.parametrize("clock", ["t", "t-half", "r", "sigma", "log-snr", "angle"])
def test_clocks_go_there_and_back_and_name_the_same_noise(clock):
    t = np.array([0.05, 0.5, 1.0, 3.0])
    value = convert(t, from_="t", to=clock)
    assert convert(value, from_=clock, to="t") == pytest.approx(t, rel=1e-9)
    alpha, sigma = OU().alpha(t), OU().sigma(t)
    expected = {
        "t": t, "t-half": 2 * t, "r": alpha, "sigma": sigma / alpha,
        "log-snr": np.log(alpha**2 / sigma**2), "angle": np.arctan2(sigma, alpha),
    }[clock]
    assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: cfg(P, 5, 1.0, OU()), "label 5"),
        (lambda: cfg(P, 1, np.nan, OU()), "w must"),
        (lambda: cfg(P, 1, "3", OU()), "w must"),
        (lambda: cfg(P, 1, np.ones((3, 2)), OU())(X, 0.1), "w of shape"),
        (lambda: cfg(P, 1, np.ones((3, 1)), OU())(X, 0.1), "broadcast"),
        (lambda: cfg(P, 1, 1.0, OU())(X, -1.0), "t must"),
        (lambda: cfg.combine(None, None, np.inf), "w must"),
        (lambda: convert(1.0, from_="w", to="t"), "cannot go"),
        (lambda: convert(1.0, from_="cfg", to="w"), "cannot go"),
        (lambda: convert(1.5, from_="r", to="t"), "out of range"),
        (lambda: convert(-1.0, from_="t", to="r"), "t must"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_strength_names_the_same_guidance():
    named = {"w": 2.5, "eta": 2.5, "scale": 3.5, "classifier-scale": 3.5, "gamma": 3.5}
    for from_, value in named.items():
        for to, expected in named.items():
            assert convert(value, from_=from_, to=to) == expected


def test_combined_fields_take_a_strength_that_depends_on_time():
    cond, uncond = (lambda x, t: 2 * x), (lambda x, t: x)
    field = cfg.combine(cond, uncond, lambda t: 10 * t)
    assert field(X, 0.3) == pytest.approx(5 * X)
    assert field(X, 0.7) == pytest.approx(9 * X)


@pytest.mark.parametrize("shape", [(4, 2), (3, 4, 2), (3, 4, 5, 2)])
def test_a_sweep_of_combined_fields_runs_along_the_first_axis_for_any_number_of_axes(shape):
    w, x = np.array([0.0, 1.0, 4.0]), np.random.default_rng(0).standard_normal(shape)
    swept = cfg.combine(lambda x, t: 2 * x, lambda x, t: x, w)(x, 0.5)
    slabs = x if len(shape) > 2 else [x] * 3
    for strength, slab, out in zip(w, slabs, swept, strict=True):
        assert out == pytest.approx((2 + strength) * slab)


def test_a_sweep_of_combined_fields_keeps_the_kind_and_precision_of_a_tensor():
    torch = pytest.importorskip("torch")
    x = torch.ones((4, 2), dtype=torch.float32)
    swept = cfg.combine(lambda x, t: 2 * x, lambda x, t: x, np.array([0.0, 3.0]))(x, 0.5)
    assert isinstance(swept, torch.Tensor) and swept.dtype == torch.float32
    assert torch.equal(swept, torch.stack([2 * x, 5 * x]))


def test_classifier_guidance_of_the_only_class_is_the_plain_score():
    p = GaussianMixture(RING, labels=np.zeros(8, int))
    law = p.noised(OU().alpha(0.3), OU().sigma(0.3))
    assert classifier_guidance(p, 0, 9.0, OU())(X, 0.3) == pytest.approx(law.score(X), rel=1e-12)


@pytest.mark.parametrize("w", [np.nan, np.inf, "3"])
def test_classifier_guidance_refuses_a_strength_that_is_not_a_finite_number(w):
    with pytest.raises((ValueError, TypeError), match="w must"):
        classifier_guidance(P, 1, w, OU())


@pytest.mark.parametrize(
    "value, clock", [(-1.0, "sigma"), (-1.0, "angle"), (3.0, "angle"), (-0.5, "r"), (np.nan, "t"), (np.nan, "log-snr")]
)
def test_values_that_no_noise_level_has_are_refused(value, clock):
    with pytest.raises(ValueError):
        convert(value, from_=clock, to="t" if clock != "t" else "r")


def test_convert_takes_lists_and_refuses_nan():
    assert convert([1.0, 2.0], from_="w", to="scale") == pytest.approx([2.0, 3.0])
    with pytest.raises(ValueError, match="value"):
        convert(np.nan, from_="w", to="scale")


def test_strengths_that_a_field_cannot_use_are_refused():
    with pytest.raises(ValueError, match="one number"):
        classifier_guidance(P, 1, np.array([1.0, 2.0]), OU())
    field = cfg(P, 1, 1.0, OU())
    with pytest.raises(ValueError, match="w must"):
        cfg.combine(field, field, lambda t: np.nan)(X, 0.3)


@pytest.mark.parametrize("w", [0.5, 3.0, 30.0])
def test_single_precision_is_right_deep_inside_another_narrow_class(w):
    # Peaks of e^35 and a class that is e^-94 less likely here: the ratio of the two is below single precision's range.
    d = 6
    means = np.zeros((2, d))
    means[1, 0] = 0.0137
    p = GaussianMixture(means, covs=1e-6, labels=[0, 1])
    x = np.random.default_rng(0).normal(0.0, 2e-5, (200, d)).astype(np.float32)
    expected = p.guided_score(x.astype(float), 1, w)
    assert np.abs(p.guided_score(x, 1, w) - expected).max() < 1e-3 * np.abs(expected).max()
