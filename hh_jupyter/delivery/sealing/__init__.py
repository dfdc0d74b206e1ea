"""From an ended span to its final form: stamped, redacted, limited, typed, encoded. CPU only, no network."""
