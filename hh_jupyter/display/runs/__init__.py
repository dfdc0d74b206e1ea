"""Runs of experiments to look at: progress, result, comparison. Each file makes one form of one thing."""
