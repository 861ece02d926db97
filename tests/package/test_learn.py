"""Score networks: what they learn is measured against the exact score, and everything around it is exact."""
import time

import numpy as np
import pytest
import torch

from guidance import OU, VE, VP, GaussianMixture, cfg, learn, sample
from guidance.process import velocity

PROCESS = OU()
ANGLES = np.array([0.05, 0.15, 0.3, 0.45, 0.6, 0.9, 1.2, 1.5, 1.57, PROCESS.angle(10.0)])
TIMES = PROCESS.time(ANGLES)


def ring():
    """Eight components of standard deviation 1/4 on a circle of radius 2; the upper half is class 0, the lower class 1."""
    turn = 2 * np.pi * np.arange(8) / 8
    return GaussianMixture(2 * np.stack([np.cos(turn), np.sin(turn)], axis=1), covs=1 / 16, labels=np.arange(8) // 4)


def exact(p, process=PROCESS):
    return lambda x, t: p.noised(process.alpha(t), process.sigma(t)).score(x)


def error(network, label, p=None, times=TIMES, n=4000):
    law = (p or ring()) if label is None else (p or ring()).given(label)
    return learn.score_error(network.score(label), exact(law), law, PROCESS, times, n, np.random.default_rng(1))


def quick(x=None, labels=None, process=PROCESS, **changes):
    return learn.train(ring() if x is None else x, labels, process, **{"steps": 3, "batch_size": 16, "seed": 0, "progress": False, **changes})


def same_weights(a, b):
    return all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    with learn.one_thread():
        yield


@pytest.fixture(scope="module")
def trained():
    start = time.process_time()
    network = learn.train(ring(), None, PROCESS, seed=0, progress=False)
    network.seconds = time.process_time() - start
    return network


@pytest.fixture(scope="module")
def trained_on_noise():
    return learn.train(ring(), None, PROCESS, prediction="eps", seed=0, progress=False)


# ---------------------------------------------------------------------------------------------- what is learned


def test_training_on_a_2d_mixture_takes_seconds(trained):
    assert trained.seconds < 20


@pytest.mark.parametrize(("label", "largest", "typical"), [(0, 0.12, 0.08), (1, 0.12, 0.08), (None, 0.25, 0.13)])
def test_the_velocity_is_close_to_the_exact_one_at_every_noise_level(trained, label, largest, typical):
    measured = error(trained, label).velocity
    assert measured.max() < largest and np.sqrt(np.mean(measured**2)) < typical


def test_an_untrained_network_is_far_from_the_exact_score():
    untrained = learn.ScoreNetwork(2, (0, 1), PROCESS, seed=0)
    assert np.sqrt(np.mean(error(untrained, 0).velocity ** 2)) > 1


def test_the_loss_approaches_the_part_that_no_network_can_predict(trained):
    p, rng = ring(), np.random.default_rng(2)
    floor = []
    for angle in (np.arange(200) + 0.5) / 200 * PROCESS.angle(10.0):
        alpha, sigma = np.cos(angle), np.sin(angle)
        x0, labels = p.sample(500, rng)
        eps = rng.standard_normal(x0.shape)
        x = alpha * x0 + sigma * eps
        for label in (0, 1):
            here = labels == label
            best = velocity(p.given(label).noised(alpha, sigma).score(x[here]), x[here], alpha, sigma)
            floor.append(np.square(alpha * eps[here] - sigma * x0[here] - best).mean() * here.mean() * 2)
    conditional = np.mean(floor)
    late = trained.losses[-1000:].mean()
    assert trained.losses.shape == (4000,) and trained.losses.dtype == np.float64
    assert conditional < late < 1.15 * conditional < trained.losses[:20].mean()


def test_label_dropping_teaches_three_different_fields(trained):
    p, t = ring(), float(PROCESS.time(0.9))
    x = PROCESS.alpha(t) * p.sample(2000, np.random.default_rng(3))[0]
    fields = {label: exact(p if label is None else p.given(label))(x, t) for label in (None, 0, 1)}
    for label in fields:
        distance = {other: np.square(trained.score(label)(x, t) - fields[other]).mean() for other in fields}
        assert min(distance, key=distance.get) == label
        assert distance[label] < 0.05 * min(distance[other] for other in fields if other != label)


def test_an_error_in_predicted_noise_grows_without_bound_in_the_denoiser(trained, trained_on_noise):
    ours, noise = error(trained, 0), error(trained_on_noise, 0)
    middle = (ANGLES > 0.1) & (ANGLES < 1.3)
    assert max(ours.velocity[middle].max(), noise.velocity[middle].max()) < 0.15
    assert ours.denoiser[-1] < 0.2
    assert noise.denoiser[-1] > 200
    np.testing.assert_allclose(noise.denoiser[-1] / noise.denoiser[-2], PROCESS.alpha(TIMES[-2]) / PROCESS.alpha(TIMES[-1]), rtol=0.1)


@pytest.mark.parametrize(("w", "mean", "spread"), [(0.0, 0.03, 0.03), (1.0, 0.06, 0.05), (3.0, 0.15, 0.12)])
def test_guided_samples_agree_with_the_exact_guided_flow_in_mean(trained, w, mean, spread):
    times = PROCESS.times(50, T=10.0, spacing="angle")
    start = np.random.default_rng(4).standard_normal((1500, 2))
    learned = sample(cfg.combine(trained.score(0), trained.score(None), w), PROCESS, start, times, method="ddim")
    truth = sample(cfg(ring(), 0, w, PROCESS), PROCESS, start, times, method="ddim")
    np.testing.assert_allclose(learned.mean(axis=0), truth.mean(axis=0), atol=mean)
    np.testing.assert_allclose(learned.std(axis=0), truth.std(axis=0), atol=spread)


def test_guidance_with_predicted_noise_leaves_the_data(trained_on_noise):
    times = PROCESS.times(50, T=10.0, spacing="angle")
    start = np.random.default_rng(4).standard_normal((500, 2))
    size = [
        np.linalg.norm(sample(cfg.combine(trained_on_noise.score(0), trained_on_noise.score(None), w), PROCESS, start, times), axis=1).mean()
        for w in (1.0, 3.0)
    ]
    assert size[0] > 4 and size[1] > 1.5 * size[0]


@pytest.mark.parametrize("process", [VP(), VE()], ids=["VP", "VE"])
def test_other_processes_are_learned_too(process):
    p = ring()
    network = quick(p, process=process, steps=800, batch_size=256)
    times = process.time(np.array([0.9, 1.2, 1.5]))
    measured = learn.score_error(network.score(0), exact(p.given(0), process), p.given(0), process, times, 2000, np.random.default_rng(1))
    assert (measured.velocity / np.hypot(process.alpha(times), process.sigma(times))).max() < 0.2


def test_array_data_with_names_for_labels_is_learned():
    p = ring()
    x, labels = p.sample(5000, np.random.default_rng(5))
    network = quick(x, np.array(["upper", "lower"])[labels], steps=600, batch_size=256)
    assert network.labels == ("lower", "upper")
    assert (network.velocity(np.zeros((1, 2)), 1.0, "upper")[0, 1] < -0.3) and (network.velocity(np.zeros((1, 2)), 1.0, "lower")[0, 1] > 0.3)


# --------------------------------------------------------------------------------------- how it is trained, exactly


def test_two_runs_agree_to_the_last_bit_and_another_seed_does_not():
    first, second, other = quick(steps=30), quick(steps=30), quick(steps=30, seed=1)
    assert same_weights(first, second) and np.array_equal(first.losses, second.losses)
    assert not same_weights(first, other)


def test_global_random_state_and_threads_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.manual_seed(7)
    seeded = torch.get_rng_state()
    torch.set_num_threads(2)
    network = quick()
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), seeded) and np.array_equal(np.random.get_state()[1], numpy_state)
    torch.manual_seed(8)
    assert same_weights(network, quick())
    torch.set_rng_state(torch_state)


def test_one_thread_restores_the_count_after_an_error():
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError), learn.one_thread():
        assert torch.get_num_threads() == 1
        1 / 0
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("dropout", "moved"), [(0.0, [True, True, False]), (1.0, [False, False, True]), (0.5, [True, True, True])])
def test_label_dropout_decides_which_labels_are_trained(dropout, moved):
    start = learn.ScoreNetwork(2, (0, 1), PROCESS, seed=0).from_label.weight
    end = quick(steps=5, label_dropout=dropout).from_label.weight
    assert (start != end).any(dim=1).tolist() == moved


def test_the_average_of_weights_is_exponential():
    first, second = quick(steps=1, ema_decay=0.0), quick(steps=2, ema_decay=0.0)
    averaged = quick(steps=2, ema_decay=0.75)
    for a, b, c in zip(first.parameters(), second.parameters(), averaged.parameters(), strict=True):
        torch.testing.assert_close(c, 0.75 * a + 0.25 * b)


def test_the_learning_rate_falls_along_a_cosine(monkeypatch):
    rates = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    quick(steps=8, learning_rate=0.1)
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * np.arange(8) / 8)))


def test_angles_are_stratified_over_the_times_asked_for(monkeypatch):
    seen, forward = [], learn.ScoreNetwork.forward
    monkeypatch.setattr(learn.ScoreNetwork, "forward", lambda self, x, angle, index: seen.append(angle) or forward(self, x, angle, index))
    quick(steps=4, batch_size=50, T=2.0, t_min=0.1)
    low, high = PROCESS.angle(0.1), PROCESS.angle(2.0)
    for angle in seen:
        stratum = (angle.numpy() - low) / (high - low) * 50
        assert np.all((np.arange(50) - 1e-4 < stratum) & (stratum < np.arange(50) + 1 + 1e-4))
    assert len(seen) == 4 and not torch.equal(seen[0], seen[1])


def test_a_short_run_prints_nothing(capfd):
    quick(progress=True)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------- fields in, fields out


@pytest.mark.parametrize("prediction", learn.PREDICTIONS)
@pytest.mark.parametrize("process", [OU(), VE()], ids=["OU", "VE"])
def test_score_and_velocity_say_the_same(prediction, process):
    network = quick(process=process, prediction=prediction, steps=20)
    x, t = np.random.default_rng(6).standard_normal((20, 2)), 0.7
    expected = velocity(network.score(1)(x, t), x, process.alpha(t), process.sigma(t))
    np.testing.assert_allclose(network.velocity(x, t, 1), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 2), (3, 5, 2), (2,), (0, 2)])
def test_numpy_and_torch_come_out_as_they_went_in(trained, dtype, shape):
    x = np.random.default_rng(7).standard_normal(shape).astype(dtype)
    for call in (trained.score(0), lambda x, t: trained.velocity(x, t, 0)):
        array, tensor = call(x, 0.5), call(torch.from_numpy(x), 0.5)
        assert isinstance(array, np.ndarray) and array.dtype == x.dtype and array.shape == shape
        assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.from_numpy(x).dtype
        np.testing.assert_array_equal(array, tensor.numpy())


def test_a_field_reads_arrays_that_are_not_contiguous_or_writable(trained):
    x = np.random.default_rng(8).standard_normal((2, 6)).T
    x.flags.writeable = False
    np.testing.assert_array_equal(trained.score(None)(x, 0.5), trained.score(None)(x.copy(), 0.5))


def test_gradients_pass_through_a_tensor_and_stop_at_the_weights(trained):
    x = torch.zeros((4, 2), requires_grad=True)
    trained.score(0)(x, 0.5).sum().backward()
    assert x.grad.abs().min() > 0 and all(weight.grad is None for weight in trained.parameters())


def test_a_tensor_goes_through_the_sampler(trained):
    times = PROCESS.times(10, T=3.0, spacing="angle")
    start = np.random.default_rng(9).standard_normal((50, 2))
    guided = cfg.combine(trained.score(0), trained.score(None), 1.0)
    tensor = sample(guided, PROCESS, torch.from_numpy(start), times)
    np.testing.assert_allclose(tensor.numpy(), sample(guided, PROCESS, start, times), rtol=1e-5, atol=1e-5)


def test_a_sweep_of_strengths_is_a_row_of_single_runs(trained):
    x, w = np.random.default_rng(10).standard_normal((6, 2)), np.array([0.0, 1.0, 4.0])
    swept = cfg.combine(trained.score(0), trained.score(None), w)(x, 0.5)
    for strength, slab in zip(w, swept, strict=True):
        np.testing.assert_allclose(slab, cfg.combine(trained.score(0), trained.score(None), strength)(x, 0.5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_trains_and_answers_on_a_gpu():
    network = quick(steps=50, batch_size=64, device="cuda")
    x = torch.zeros((3, 2), device="cuda")
    assert network.score(0)(x, 0.5).device == x.device
    reference = quick(steps=50, batch_size=64).score(0)(x.cpu().numpy(), 0.5)
    np.testing.assert_allclose(network.score(0)(x.cpu().numpy(), 0.5), reference, rtol=1e-2, atol=1e-2)


# --------------------------------------------------------------------------------------------------- score_error


@pytest.mark.parametrize("process", [OU(), VE()], ids=["OU", "VE"])
def test_a_known_error_is_reported_in_every_unit(process):
    p, shift, times = ring(), np.array([3.0, 4.0]), np.array([0.1, 0.5, 2.0])
    alpha, sigma = process.alpha(times), process.sigma(times)
    truth = exact(p, process)
    report = learn.score_error(lambda x, t: truth(x, t) + shift, truth, p, process, times, 300, np.random.default_rng(0))
    np.testing.assert_allclose(report.absolute, 5.0)
    np.testing.assert_allclose(report.noise, 5 * sigma)
    np.testing.assert_allclose(report.denoiser, 5 * sigma**2 / alpha)
    np.testing.assert_allclose(report.velocity, 5 * (sigma / alpha) * (alpha**2 + sigma**2))
    np.testing.assert_allclose(report.angle, np.arctan2(sigma, alpha))
    np.testing.assert_array_equal(report.times, times)


def test_the_relative_error_of_the_zero_field_is_one():
    p = ring()
    report = learn.score_error(lambda x, t: 0 * x, exact(p), p, PROCESS, TIMES, 100, np.random.default_rng(0))
    np.testing.assert_allclose(report.relative, 1.0)


def test_points_come_from_the_noised_law():
    p = GaussianMixture([[0.0]], covs=4.0)
    report = learn.score_error(lambda x, t: 0 * x, lambda x, t: x, p, PROCESS, [0.5], 200_000, np.random.default_rng(0))
    np.testing.assert_allclose(report.absolute, np.sqrt(4 * np.exp(-1) + 1 - np.exp(-1)), rtol=0.01)


# ----------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "kind", "names"),
    [
        ({"x": np.zeros((4, 2), dtype=int), "labels": None}, TypeError, "x must be a NumPy array of floats, got an array of int64"),
        ({"x": [[0.0, 1.0]]}, TypeError, "x must be a NumPy array of floats, got list"),
        ({"x": np.array([[0.0, 1.0], [np.nan, 0.0]])}, ValueError, r"x must be finite, got NaN or inf at index \(1, 0\)"),
        ({"x": np.zeros(4)}, ValueError, r"x must have shape \(n, d\)"),
        ({"x": np.zeros((0, 2))}, ValueError, r"x must have shape \(n, d\)"),
        ({"x": np.zeros((4, 2)), "labels": [0, 1]}, ValueError, r"labels must have shape \(4,\)"),
        ({"x": np.zeros((2, 2)), "labels": [0.0, np.nan]}, ValueError, "labels must be finite"),
        ({"labels": [0, 1]}, ValueError, "labels must be None"),
        ({"steps": -1}, ValueError, "steps must be an integer >= 1, got -1"),
        ({"steps": 2.5}, ValueError, "steps must be an integer"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"hidden": 0}, ValueError, "hidden must be"),
        ({"depth": True}, ValueError, "depth must be"),
        ({"prediction": "x0"}, ValueError, r"prediction must be one of \('v', 'eps'\)"),
        ({"label_dropout": 1.5}, ValueError, "label_dropout must be a probability"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay must be in"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be positive"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"seed": None}, ValueError, "seed must be an integer >= 0"),
        ({"T": 0.1, "t_min": 0.2}, ValueError, "t_min"),
    ],
)
def test_bad_training_input_is_refused_by_name(changes, kind, names):
    with pytest.raises(kind, match=names):
        quick(**changes)


def test_bad_input_to_a_field_is_refused_by_name(trained):
    x, score = np.zeros((3, 2)), trained.score(0)
    for bad, kind, names in (
        (np.zeros((3, 2), dtype=int), TypeError, "x must be a NumPy array of floats"),
        (torch.zeros((3, 2), dtype=torch.int64), TypeError, "x must hold floats, got torch.int64"),
        (np.zeros((3, 4)), ValueError, r"x must have shape \(\.\.\., 2\), got \(3, 4\)"),
        (np.full((3, 2), np.inf), ValueError, "x must be finite"),
    ):
        with pytest.raises(kind, match=names):
            score(bad, 0.5)
    with pytest.raises(ValueError, match="t must be finite and >= 0"):
        score(x, -0.5)
    with pytest.raises(ValueError, match=r"t must be one number, got shape \(3,\)"):
        score(x, np.full(3, 0.5))
    with pytest.raises(ValueError, match=r"t must have sigma\(t\) > 0"):
        score(x, 0.0)
    for label in (2, "cat", [0], np.array([0, 1])):
        with pytest.raises(ValueError, match=r"label must be None or one of \(0, 1\)"):
            trained.score(label)


def test_bad_sizes_and_labels_of_a_network_are_refused_by_name():
    with pytest.raises(ValueError, match="d must be"):
        learn.ScoreNetwork(0, (), PROCESS, seed=0)
    with pytest.raises(ValueError, match="labels must be distinct"):
        learn.ScoreNetwork(2, (0, 0), PROCESS, seed=0)


@pytest.mark.parametrize(("times", "n", "names"), [([0.0, 1.0], 10, "times"), (1.0, 10, "times"), ([np.nan], 10, "times"), ([1.0], 0, "n must")])
def test_bad_input_to_score_error_is_refused_by_name(trained, times, n, names):
    with pytest.raises(ValueError, match=names):
        learn.score_error(trained.score(0), exact(ring()), ring(), PROCESS, times, n, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"label_dropout": -0.1}, "label_dropout must be a probability"),
        ({"label_dropout": np.nan}, "label_dropout must be a probability"),
        ({"ema_decay": -0.1}, "ema_decay must be in"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": np.inf}, "learning_rate must be positive"),
        ({"seed": 1.5}, "seed must be an integer >= 0"),
        ({"T": np.inf}, "T=inf"),
        ({"t_min": -0.1}, "0 <= t_min"),
        ({"x": np.zeros((4, 0))}, r"x must have shape \(n, d\)"),
    ],
)
def test_training_numbers_just_outside_their_range_are_refused_by_name(changes, names):
    with pytest.raises(ValueError, match=names):
        quick(**changes)


def test_the_rows_of_a_sampler_follow_its_sorted_labels_whatever_they_are():
    for right, left in (("right", "left"), (7, -2)):
        p = GaussianMixture([[3.0], [-3.0], [0.0]], [0.5, 0.5, 0.0], covs=0.01, labels=[right, left, right])
        draw, names, d = learn._batches(p, None, 32, 0)
        x0, index = draw(None)
        assert names == [left, right] and d == 1 and x0.shape == (32, 1) and x0.dtype == torch.float32
        assert torch.equal(index, (x0[:, 0] > 0).long()) and 0 < index.sum() < 32
