"""The test servers are tested too: a fault that never happened proves nothing."""
