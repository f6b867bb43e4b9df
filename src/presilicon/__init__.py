"""presilicon: design, verify, price and serve an AI inference chip before it exists."""

__version__ = "0.1.0"
