"""Parses YAML text and ``--set`` into a validated plan, with the line of every problem; and the JSON Schema."""
