"""When a request may leave, and that it leaves once."""
