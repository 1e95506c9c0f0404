"""The search space: parameters, their domains, and how a recipe is drawn."""
