//! The protocols that come with the actors, one file each.

pub mod echo;
pub mod handler;
pub mod relay;
