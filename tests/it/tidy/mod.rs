//! The tests of the source itself, which they read as text: rules for each file, and import circles.

mod circles;
mod rules;
mod tokens;
