"""An exact world for learning what guidance does to a diffusion model. Names are loaded when first used."""
from importlib import import_module

__version__ = "0.1.0"

_HOME = {"OU": "process", "VP": "process", "VE": "process", "Cosine": "process", "GaussianMixture": "mixtures",
         "UniformMixture": "uniform", "Subspace": "manifolds", "Sphere": "manifolds", "cfg": "guide",
         "classifier_guidance": "guide", "convert": "guide", "sample": "samplers"}
_MODULES = ("process", "mixtures", "manifolds", "guide", "samplers", "optimize", "exact", "metrics", "tilt", "tracker", "pipelines", "data",
            "learn", "ledger", "show")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name):
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
