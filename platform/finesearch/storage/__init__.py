"""Durable files and folders, checksums, locks and leases of a run, and object stores."""
