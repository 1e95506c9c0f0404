"""Durable files and folders, locks of a run, and object stores."""
