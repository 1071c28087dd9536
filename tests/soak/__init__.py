"""The proof: publishers, clients and nodes under faults, and an offline checker that tries to catch the server losing,
doubling or confusing something (docs/reliability.md).

Everything that happens is written to append-only journals with the machine's monotonic time; the checker is a pure
function of them. `python -m tests.soak --help`.
"""
