"""What people who run the server ask it: who may do what, and whether all is set up well."""
