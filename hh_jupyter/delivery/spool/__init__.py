"""Copies on disk of unsent records, one file for each process, and the local trace store."""
