"""accord: learn what people prefer, then optimise for it, and know whether it worked."""

__version__ = "0.1.0"
