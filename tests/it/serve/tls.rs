//! What only TLS has.
