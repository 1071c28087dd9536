"""What goes over the wire: messages, codes, encodings, frames. Pure: bytes and values, no I/O."""
