"""``finesearch export``: a ranked checkpoint as a folder that can be handed on, with its model card."""
