"""Fuzzing: whatever comes from outside is understood or refused, and nothing else happens.

`python -m tests.fuzz TARGET --seconds 600` runs one target with atheris, which looks for input that reaches new code;
`tests/fuzz/test_fuzz.py` runs each for a short time, and each again with a defect in it that must be found.
"""
