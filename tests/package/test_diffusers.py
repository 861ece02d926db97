"""The adapter for `diffusers` pipelines, on a tiny random Stable Diffusion that is built here: nothing is downloaded."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason='needs pip install -e ".[images]"')
transformers = pytest.importorskip("transformers", reason='needs pip install -e ".[images]"')

from guidance import optimize, pipelines, sample  # noqa: E402
from guidance.process import score_from_velocity  # noqa: E402

PROMPT = "a photo of a cat"
NOTEBOOK = Path(__file__).parents[2] / "book" / "part5" / "images.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved Stable Diffusion v1.5 in miniature: its classes and noise schedule, 8 x 8 latents, 16 x 16 images, random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = [chr(i) for i in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=16,
        bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = diffusers.StableDiffusionPipeline(
            tokenizer=transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16),
            text_encoder=transformers.CLIPTextModel(text),
            unet=diffusers.UNet2DConditionModel(
                sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32), cross_attention_dim=32,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                attention_head_dim=4, norm_num_groups=8,
            ),
            vae=diffusers.AutoencoderKL(
                latent_channels=4, block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8,
            ),
            scheduler=diffusers.PNDMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True,
            ),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )
    pipe.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def pipe(folder):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def brightness(images):
    return images.mean((1, 2, 3))


def test_the_process_is_the_schedulers(pipe):
    latents = pipelines.Latents(pipe, PROMPT)
    assert (latents.shape, latents.d, latents.default_T) == ((4, 8, 8), 256, 1000)
    signal = pipe.scheduler.alphas_cumprod.numpy()
    t = np.arange(1, 1001)
    assert latents.alpha(t) ** 2 == pytest.approx(signal, rel=1e-6)
    assert latents.alpha(t) ** 2 + latents.sigma(t) ** 2 == pytest.approx(1.0)
    assert (latents.alpha(0.0), latents.sigma(0.0)) == (1.0, 0.0)
    assert latents.alpha(1000) == pytest.approx(0.0683, abs=1e-4)  # Stable Diffusion's schedule stops short of pure noise
    times = latents.times(50)
    assert len(times) == 51 and np.all(np.diff(times) < 0)
    assert times[[0, -2, -1]].tolist() == [982.0, 2.0, 0.0]


def test_unguided_sampling_is_the_pipelines_own(pipe, rng):
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, set_alpha_to_one=True, clip_sample=False)
    latents = pipelines.Latents(pipe, PROMPT, negative_prompt="dark")
    x_T = latents.start(2, rng)
    theirs = pipe(
        PROMPT, negative_prompt="dark", num_inference_steps=10, num_images_per_prompt=2, guidance_scale=7.5, output_type="latent",
        latents=x_T.reshape(2, 4, 8, 8).clone(),
    ).images
    ours = sample(latents.score(), latents, x_T, latents.times(10), "ddim")
    assert ours.dtype == torch.float32
    assert ours.numpy() == pytest.approx(theirs.reshape(2, -1).numpy(), abs=1e-4)
    images = pipe.vae.decode(theirs / pipe.vae.config.scaling_factor).sample
    assert latents.decode(ours).numpy() == pytest.approx(images.detach().numpy(), abs=1e-4)
    once = pipelines.Latents(pipe, PROMPT, guidance_scale=1)
    apart = sample(once.score(), once, x_T, latents.times(10), "ddim")
    assert (apart - ours).abs().max() > 1e-3  # the text and its scale matter


def test_a_velocity_network_gives_the_score_too(pipe, rng):
    plain = pipelines.Latents(pipe, PROMPT)
    x, t = plain.start(2, rng), 400.0
    guess = -plain.sigma(t) * plain.score()(x, t)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction")
    latents = pipelines.Latents(pipe, PROMPT)
    exact = score_from_velocity(guess, x, latents.alpha(t), latents.sigma(t))
    assert latents.score()(x, t).numpy() == pytest.approx(exact.numpy(), rel=1e-4, abs=1e-4)


def test_look_ahead_and_reward_differentiate_the_pipeline(pipe, rng):
    pipe.to(torch.float64)
    latents = pipelines.Latents(pipe, PROMPT)
    x, t = latents.start(2, rng).double(), 602.0
    g, direction = torch.as_tensor(rng.standard_normal((2, 2, 256)))
    alpha, h, score = latents.alpha(t), latents.sigma(t) ** 2, latents.score()

    def loss(x):
        return (1.5 - (g * (x + h * score(x, t)) / alpha).sum(1)) ** 2

    step = 1e-5 * direction
    with torch.no_grad():
        slope = (loss(x + step) - loss(x - step)) / 2e-5
    G = optimize.look_ahead(latents, g, 1.5, latents, beta=1.0)(x, t) - score(x, t)
    assert (G * direction).sum(1).numpy() == pytest.approx(-slope.numpy(), rel=1e-5)

    f, grad_f = latents.reward(brightness)
    slope = (f(x + step) - f(x - step)) / 2e-5
    assert f(x).numpy() == pytest.approx(brightness(latents.decode(x)).detach().numpy())
    assert (grad_f(x) * direction).sum(1).numpy() == pytest.approx(slope.numpy(), rel=1e-5)


@pytest.mark.parametrize("guidance", ["look-ahead", "naive"])
def test_algorithm_1_raises_the_reward(pipe, guidance):
    latents = pipelines.Latents(pipe, PROMPT)
    f, grad_f = latents.reward(brightness, batch_size=2)
    run = optimize.algorithm_1(
        latents, f, grad_f, latents, latents.times(8), rounds=3, n=3, rng=np.random.default_rng(0), delta=0.2, start=latents.start,
        guidance=guidance, beta="official", progress=False,
    )
    assert run.samples.shape == (3, 256) and run.samples.dtype == torch.float32 and not run.samples.requires_grad
    assert run.reward[1:].min() > run.reward[0]


def test_the_code_of_the_chapter_runs(folder):
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "from_pretrained" in block]
    changes = {r'model = ".*"': f"model = {str(folder)!r}", r"times\(50\)": "times(6)", r"range\(8\)": "range(2)"}
    for pattern, replacement in changes.items():
        code, count = re.subn(pattern, lambda match: replacement, code)
        assert count == 1, pattern
    names = {}
    exec(compile(code, str(NOTEBOOK), "exec"), names)
    assert names["images"].shape == (5, 3, 16, 16) and torch.isfinite(names["images"]).all()
    assert len(names["rewards"]) == 3 and np.isfinite(names["rewards"]).all()


def test_refusals(pipe):
    latents = pipelines.Latents(pipe, PROMPT)
    for t in (1001, -1, 0.5):
        with pytest.raises(ValueError, match="whole number from 0 to 1000"):
            latents.alpha(t)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="sample")
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        pipelines.Latents(pipe, PROMPT)
