"""Where publications come from, in order: one interface (`core.ports.Log`), one file a kind of log."""
