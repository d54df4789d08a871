"""The request that an HTTP handler gets. The class is in Rust."""

from fanbus._core import Request

__all__ = ["Request"]
