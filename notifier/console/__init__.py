"""The console at `/`: what is going on, and a place to try a notification."""
