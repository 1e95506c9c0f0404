"""Floors: baselines without a neural network that a search must beat, each by a maintained library.

``floor``           the interface: predictions for validation and test from rows and answers
``floor_registry``  from the name in a plan to the class
"""

from finesearch.floors.floor import Floor, FloorData, FloorPredictions
from finesearch.floors.floor_registry import make_floor, unsupported_floors

__all__ = ["Floor", "FloorData", "FloorPredictions", "make_floor", "unsupported_floors"]
