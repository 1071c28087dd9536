"""Trials: what must hold while something goes wrong. Each ends with figures, and says if they are within bounds."""
