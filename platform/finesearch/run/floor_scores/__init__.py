"""The scores of floors, computed in a process of low priority while trials run."""
