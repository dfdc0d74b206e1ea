"""Prepares ended spans for export: stamps, redacts, limits, types and encodes them. CPU only, no network."""
