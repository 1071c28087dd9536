"""Measures this server and its peers side by side: `python -m loadtest --help`, and README.md beside this file."""
