"""Decides what runs next, what goes on and what the end of a trial means; knows no Ray."""
