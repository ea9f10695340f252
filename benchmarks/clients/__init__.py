"""The clients, a module each, so that a process loads but one.

Each is a coroutine function that takes the API's base URL and the load, and
sends until the load is over.
"""
