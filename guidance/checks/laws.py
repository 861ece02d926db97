"""What the exercises of several parts are about: the process, the pair, and Gaussian averages."""
import numpy as np

from guidance.mixtures import GaussianMixture
from guidance.process import OU

PROCESS, T = OU(), 10.0  # T is where its runs start unless they say otherwise


def on_a_line(means, variances=1.0, labels=None, weights=None):
    """Gaussians on a line, each a class of its own unless labels say otherwise."""
    return GaussianMixture(np.array(means, float)[:, None], weights, np.array(variances, float), labels)


def normal_nodes(count):
    """Nodes and weights (count,) of averages over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


PAIR = on_a_line([1, -1], labels=[1, 0])
