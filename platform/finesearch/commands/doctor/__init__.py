"""``finesearch doctor``: checks whether a search can start on this machine or cluster, and what will limit it."""
