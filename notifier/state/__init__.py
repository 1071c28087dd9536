"""What nodes share beside the log, in Redis. Losing Redis costs no client its connection and no delivery."""
