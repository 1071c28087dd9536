"""Tests of our parts against real servers."""
