"""Model requests that are recorded, answered from a file, or stopped before they cost too much.

Nothing of it is imported until a recording or a limit is used.
"""
