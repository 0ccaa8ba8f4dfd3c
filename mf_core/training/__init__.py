"""Training: the process that fits, what starts it, and what it may start from."""
