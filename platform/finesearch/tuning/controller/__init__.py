"""The search policy: which trial runs next, which continues, what its end means; knows no Ray."""
