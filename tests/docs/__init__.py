"""The documentation: what it links to and names is there, and what it shows runs."""
