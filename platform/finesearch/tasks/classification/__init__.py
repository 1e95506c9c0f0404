"""Tasks with one answer for a text: classes, numbers, relations."""
