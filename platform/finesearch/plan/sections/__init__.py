"""The sections of a plan file, one class a section."""
