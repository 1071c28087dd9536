"""What a notification server is. Pure: no sockets, no libraries of the outside world, no clock but the one it is given.

The way of one notification: `feed` (a record is checked and becomes publications) -> `history` (the channel's window
gets it) -> `hub` (each encoding is made once, one write a connection and tick).
"""
