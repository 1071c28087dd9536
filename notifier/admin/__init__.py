"""The operators' view: who may log in, what they see, what they may do."""
