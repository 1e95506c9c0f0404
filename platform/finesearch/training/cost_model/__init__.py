"""Cost model: estimates a recipe's run time in seconds, before it runs."""
