"""From YAML text and ``--set`` to a checked plan, with the line of every problem; and the JSON Schema."""
