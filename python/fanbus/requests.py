"""What an HTTP handler is given. The class lives in Rust; this is its name in Python."""

from fanbus._core import Request

__all__ = ["Request"]
