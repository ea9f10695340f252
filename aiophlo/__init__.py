"""Warm transfers on Plivo's PHLO for asyncio services."""

from aiophlo._version import __version__

__all__ = ["__version__"]
