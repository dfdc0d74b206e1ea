"""The copy on disk of what is to be sent, one file for each process, and the local trace store."""
