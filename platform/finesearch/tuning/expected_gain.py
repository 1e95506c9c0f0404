"""How much better than the best so far a configuration may be: expected improvement under a forest of regression trees.

Trees take conditional and categorical parameters as they are (Hutter, Hoos and Leyton-Brown, 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np

from finesearch.plan import Choice, Parameter, Range, Scalar, Space

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

TREES = 48
INACTIVE = -1.0
SMALLEST_GAIN = 1e-12


def expected_gain(
    space: Space,
    tried: Sequence[Mapping[str, Scalar]],
    values: Sequence[float],
    candidates: Sequence[Mapping[str, Scalar]],
    seed: int,
) -> np.ndarray:
    """Expected improvement (n,) of each candidate over the largest of ``values``, in their unit; above 0.

    values: what the configurations ``tried`` came to, larger is better.
    """
    from scipy.stats import norm
    from sklearn.ensemble import RandomForestRegressor

    told = np.asarray(values, dtype=np.float64)
    forest: RandomForestRegressor = RandomForestRegressor(
        n_estimators=TREES, min_samples_leaf=2, max_features=0.7, random_state=seed, n_jobs=1
    )
    # What is far below the middle only says "not here": how far would drown the differences that count.
    clipped = np.maximum(told, np.quantile(told, 0.2))
    forest.fit(np.stack([encode(space, each) for each in tried]), clipped)
    said = np.stack([encode(space, each) for each in candidates])
    each_tree = np.stack([tree.predict(said) for tree in forest.estimators_])
    mean, spread = each_tree.mean(axis=0), each_tree.std(axis=0)
    spread = np.maximum(spread, 1e-3 * max(float(np.ptp(clipped)), 1e-9))
    gain = mean - told.max()
    improvement: np.ndarray = gain * norm.cdf(gain / spread) + spread * norm.pdf(gain / spread)
    positive: np.ndarray = np.maximum(improvement, SMALLEST_GAIN * spread)
    return positive


def encode(space: Space, configuration: Mapping[str, Scalar]) -> np.ndarray:
    """Numbers (k,) in [0, 1] for a configuration; a parameter that is not active stands at -1."""
    return np.concatenate([_encoded(parameter, configuration) for parameter in space.parameters])


def _encoded(parameter: Parameter, configuration: Mapping[str, Scalar]) -> np.ndarray:
    domain, is_active = parameter.domain, parameter.name in configuration
    value = configuration.get(parameter.name)
    if isinstance(domain, Choice):
        places = [float(type(each) is type(value) and each == value) for each in domain.values]
        return np.array(places if is_active else [INACTIVE] * len(domain.values))
    assert isinstance(domain, Range)
    if not is_active:
        return np.array([INACTIVE])
    assert isinstance(value, int | float)
    low, high, at = (
        (log(x) for x in (domain.low, domain.high, value)) if domain.log else (domain.low, domain.high, value)
    )
    return np.array([(at - low) / (high - low) if high > low else 0.0])
