"""Tables of report.html: the ranking, and scores on parts of test."""
