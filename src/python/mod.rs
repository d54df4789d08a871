//! The rim: the only code that knows Python.
