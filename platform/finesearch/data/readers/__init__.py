"""One reader for each source and file format, from a path or a hub id to rows."""
