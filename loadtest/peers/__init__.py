"""The servers that are measured: each an adapter that installs, starts and speaks to one of them."""
