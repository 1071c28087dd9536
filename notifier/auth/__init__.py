"""Who somebody is: tokens to identities."""
