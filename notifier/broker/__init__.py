"""Connections to RabbitMQ, for whoever needs one."""
