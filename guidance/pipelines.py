"""A text-to-image pipeline of `diffusers` as a process and a score, for `optimize` and `sample`. Needs the extra "images".

Stable Diffusion noises a latent image z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps and decodes z_0 by a variational
autoencoder. So a pipeline already holds what guidance asks for: alpha and sigma from its scheduler, E[eps | z_t, prompt] from its
U-Net, with classifier-free guidance, and a decoder through which a reward on images becomes a reward on latents.
Nothing here imports `diffusers`: the reader loads the pipeline.
"""
from __future__ import annotations

import numpy as np
import torch

from .process import Process

PREDICTIONS = ("epsilon", "v_prediction")


class Latents(Process):
    """The latents of a pipeline under one prompt: at once a noising process and a law with a score.

    A latent is a row of d = channels * height * width numbers in a float32 tensor on the pipeline's device. Time is the scheduler's
    index plus one, so that t = 0 is data: alpha(t)^2 = alphas_cumprod[t - 1] for t = 1 ... `default_T`.

    Parameters
    ----------
    pipe : a `diffusers.StableDiffusionPipeline`, or another with its unet, vae, scheduler and encode_prompt. Its weights get frozen.
    prompt, negative_prompt : str.
    guidance_scale : float, the pipeline's own letter, uncond + guidance_scale (cond - uncond): 1 + w in this course.
        At 1 the network runs once a step, else twice.
    """

    def __init__(self, pipe, prompt, *, negative_prompt="", guidance_scale=7.5):
        kind = getattr(pipe.scheduler.config, "prediction_type", "epsilon")
        if kind not in PREDICTIONS:
            raise ValueError(f"the scheduler's prediction_type must be one of {PREDICTIONS}, got {kind!r}")
        self.pipe, self.guidance_scale, self._velocity = pipe, float(guidance_scale), kind == "v_prediction"
        for network in (pipe.unet, pipe.vae, pipe.text_encoder):
            network.requires_grad_(False)
        size = pipe.unet.config.sample_size
        self.shape = (pipe.unet.config.in_channels, *((size, size) if isinstance(size, int) else size))
        self.d = int(np.prod(self.shape))
        self.default_T = len(pipe.scheduler.alphas_cumprod)
        self._signal = np.append(1.0, pipe.scheduler.alphas_cumprod.double().cpu().numpy())  # alpha^2 at t = 0, 1, ..., default_T
        twice = self.guidance_scale != 1
        with torch.no_grad():
            cond, uncond = pipe.encode_prompt(prompt, pipe.device, 1, twice, negative_prompt)[:2]
        self._text = torch.cat([uncond, cond]) if twice else cond  # (2 or 1, tokens, features)

    def alpha(self, t):
        """Signal coefficient at t = 0, 1, ..., default_T; number or array in, same out."""
        return np.sqrt(self._signal[self._index(t)])

    def sigma(self, t):
        """Noise standard deviation at t = 0, 1, ..., default_T; number or array in, same out."""
        return np.sqrt(1 - self._signal[self._index(t)])

    def times(self, steps):
        """The scheduler's own grid of so many steps, then 0: at most (steps + 1,), decreasing."""
        self.pipe.scheduler.set_timesteps(steps)
        visited = np.unique(self.pipe.scheduler.timesteps.double().cpu().numpy().round())  # some schedulers visit a time twice
        return np.append(visited[::-1] + 1, 0.0)

    def start(self, n, rng):
        """Pure noise, (n, d), from a numpy.random.Generator: the `start` of `optimize.algorithm_1`."""
        return torch.as_tensor(rng.standard_normal((n, self.d)), dtype=torch.float32, device=self.pipe.device)

    def score(self):
        """The score field under the prompt: score(x, t) -> like x (n, d), which torch can differentiate."""
        return self._score

    def _score(self, x, t):
        alpha, sigma = float(self.alpha(t)), float(self.sigma(t))
        z = x.reshape(-1, *self.shape).to(self.pipe.unet.dtype)  # (n, channels, height, width)
        text = self._text.repeat_interleave(len(z), 0)  # (2 n or n, tokens, features)
        both = torch.cat([z, z]) if len(text) > len(z) else z
        guess = self.pipe.unet(both, int(self._index(t)) - 1, encoder_hidden_states=text).sample
        if len(text) > len(z):
            uncond, cond = guess.chunk(2)
            guess = uncond + self.guidance_scale * (cond - uncond)
        guess = guess.reshape(x.shape).to(x.dtype)
        eps = alpha * guess + sigma * x if self._velocity else guess
        return -eps / sigma

    def decode(self, x):
        """Images (n, 3, height, width), about in [-1, 1], of clean latents x (n, d)."""
        z = x.reshape(-1, *self.shape).to(self.pipe.vae.dtype)
        return self.pipe.vae.decode(z / self.pipe.vae.config.scaling_factor).sample.to(x.dtype)

    def reward(self, f, batch_size=1):
        """(value, gradient) on latents, the f and grad_f of `optimize`, of a differentiable f on images, (n, 3, H, W) -> (n,).

        batch_size : images that are decoded at once; the gradient through the decoder needs much memory.
        """

        def value(x):
            with torch.no_grad():
                return torch.cat([f(self.decode(part)) for part in x.split(batch_size)])

        def gradient(x):
            parts = [part.detach().clone().requires_grad_() for part in x.split(batch_size)]
            return torch.cat([torch.autograd.grad(f(self.decode(part)).sum(), part)[0] for part in parts])

        return value, gradient

    def _index(self, t):
        index = np.rint(t).astype(int)
        if not (np.all(np.abs(index - t) < 1e-6) and np.all(index >= 0) and np.all(index <= self.default_T)):
            raise ValueError(f"t must be a whole number from 0 to {self.default_T}, as times(steps) gives, got {t!r}")
        return index
