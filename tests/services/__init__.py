"""Real servers to test against: each private to its user, on loopback, and stoppable in unkind ways.

Nothing here knows pytest, so that the load test and scripts can use the same classes.
"""
