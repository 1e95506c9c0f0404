"""A Gaussian process over encoded configurations, for few observations of unequal reliability.

Matern 5/2 with a length for each parameter. Lengths have a prior that grows with the number of parameters (Hvarfner,
Hellsten and Nardi, 2024), so that a dozen observations in a dozen dimensions do not make it certain of anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT5 = sqrt(5.0)
JITTER = 1e-8
ITERATIONS = 40


@dataclass(frozen=True)
class Kernel:
    """Matern 5/2; ``log_lengths`` (d,), ``log_scale`` and ``log_noise`` are variances of standardized values.

    is_choice: columns (d,) in which points are alike or not, and nothing between.
    """

    is_choice: np.ndarray
    log_lengths: np.ndarray
    log_scale: float
    log_noise: float

    def distances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Squared distance (n, m) of points (n, d) and (m, d), each parameter in units of its length."""
        lengths = np.exp(self.log_lengths)
        left, right = (each[:, ~self.is_choice] / lengths[~self.is_choice] for each in (one, other))
        squared: np.ndarray = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1) - 2.0 * left @ right.T
        for column in np.flatnonzero(self.is_choice):
            squared += (one[:, None, column] != other[None, :, column]) / lengths[column] ** 2
        distances: np.ndarray = np.maximum(squared, 0.0)
        return distances

    def covariance(self, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Covariance (n, m) at squared distances, and its derivative by half of them, negated."""
        away = ROOT5 * np.sqrt(distances)
        decay = np.exp(self.log_scale - away)
        return (1.0 + away + 5.0 / 3.0 * distances) * decay, 5.0 / 3.0 * (1.0 + away) * decay

    def between(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Covariance (n, m) of points (n, d) and (m, d)."""
        return self.covariance(self.distances(one, other))[0]


@dataclass(frozen=True)
class GaussianProcess:
    """A posterior over values of configurations.

    points: observed (n, d). values: standardized (n,). noise: variances (n,) that are known beside the fitted one.
    mean, spread: of the observed values, in their unit.
    """

    kernel: Kernel
    points: np.ndarray
    values: np.ndarray
    noise: np.ndarray
    mean: float
    spread: float

    @classmethod
    def fit(
        cls, points: np.ndarray, values: np.ndarray, deviations: np.ndarray, is_choice: np.ndarray, active: float
    ) -> GaussianProcess:
        """Fit the kernel by the largest posterior density, from one start, so that equal data give an equal result.

        Args:
            points: observed (n, d).
            values: of them (n,).
            deviations: standard deviation (n,) of what is not known about each value.
            is_choice: see :class:`Kernel`.
            active: parameters that a configuration has on average.
        """
        mean, spread = float(np.mean(values)), max(float(np.std(values)), 1e-12)
        standard, noise = (values - mean) / spread, np.square(deviations / spread)
        kernel = _fitted(points, standard, noise, is_choice, max(1.0, active))
        return cls(kernel, points, standard, noise, mean, spread)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of the values at points (m, d)."""
        across = self.kernel.between(points, self.points)
        inverse = np.linalg.inv(np.linalg.cholesky(self._covariance()))
        known = across @ inverse.T
        middle = known @ (inverse @ self.values)
        variance = np.maximum(np.exp(self.kernel.log_scale) - np.square(known).sum(axis=1), 1e-10)
        return self.mean + self.spread * middle, self.spread * np.sqrt(variance)

    def believing(self, points: np.ndarray) -> GaussianProcess:
        """As if its own mean had been observed at points (m, d): for trials that run (Ginsbourger et al., 2010)."""
        if not len(points):
            return self
        believed = (self.predict(points)[0] - self.mean) / self.spread
        return replace(
            self,
            points=np.concatenate([self.points, points]),
            values=np.concatenate([self.values, believed]),
            noise=np.concatenate([self.noise, np.zeros(len(points))]),
        )

    def _covariance(self) -> np.ndarray:
        noise = self.noise + np.exp(self.kernel.log_noise) + JITTER
        covariance: np.ndarray = self.kernel.between(self.points, self.points) + np.diag(noise)
        return covariance


def _fitted(points: np.ndarray, values: np.ndarray, noise: np.ndarray, is_choice: np.ndarray, active: float) -> Kernel:
    from scipy.optimize import minimize

    width = points.shape[1]
    start = np.concatenate([np.full(width, log(0.5 * sqrt(active))), [0.0, -4.0]])
    bounds = [(-3.5, 5.0)] * width + [(-3.0, 3.0), (-9.0, 1.0)]
    density = fitting_density(points, values, noise, is_choice, active)
    found = minimize(density, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS})
    return Kernel(is_choice, found.x[:width], float(found.x[width]), float(found.x[width + 1]))


def fitting_density(
    points: np.ndarray, values: np.ndarray, noise: np.ndarray, is_choice: np.ndarray, active: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Negative logarithm of likelihood times prior, and its gradient, by the kernel's numbers (d + 2,): logarithms of
    lengths, scale and noise. For the arguments see :meth:`GaussianProcess.fit`; ``noise`` holds variances."""
    from scipy.linalg.lapack import dpotrf, dpotri

    width, count = points.shape[1], len(points)
    apart = points[:, None, :] - points[None, :, :]
    along = np.where(is_choice, apart != 0.0, np.square(apart)).reshape(count * count, width)
    centre = np.concatenate([np.full(width, sqrt(2.0) + 0.5 * log(active)), [0.0, -4.0]])
    allowed = np.concatenate([np.full(width, sqrt(3.0)), [0.7, 1.0]])

    def density(at: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = Kernel(is_choice, at[:width], float(at[width]), float(at[width + 1]))
        shrink = np.exp(-2.0 * kernel.log_lengths)
        covariance, slope = kernel.covariance((along @ shrink).reshape(count, count))
        own = np.exp(kernel.log_noise)
        # Thousands of these are small: LAPACK's own calls take half as long as the functions around them.
        factor, failed = dpotrf(covariance + np.diag(noise + own + JITTER), lower=1)
        if failed:
            return 1e10, np.zeros(width + 2)
        lower = np.tril(dpotri(factor, lower=1)[0])
        inverse = lower + lower.T - np.diag(np.diag(lower))
        weights = inverse @ values
        by_covariance = 0.5 * (inverse - np.outer(weights, weights))
        by_length = (by_covariance * slope).reshape(-1) @ along * shrink
        gradient = np.concatenate([by_length, [(by_covariance * covariance).sum(), np.trace(by_covariance) * own]])
        off = (at - centre) / allowed
        fit = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
        return fit + 0.5 * float(off @ off), gradient + off / allowed

    return density
