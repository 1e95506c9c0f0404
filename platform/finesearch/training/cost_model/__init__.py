"""What a recipe costs in seconds, estimated before it runs."""
