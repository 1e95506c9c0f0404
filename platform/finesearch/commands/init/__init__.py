"""``finesearch init``: looks at data files and writes a plan, each guess with its reason."""
