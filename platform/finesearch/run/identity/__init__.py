"""What makes a run the same run when it goes on: its plan, its choices, its data, its model and its study."""
