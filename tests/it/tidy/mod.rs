//! The tests of the source itself, which they read as text: rules for each file, import circles, and barriers.

mod barriers;
mod circles;
mod rules;
mod tokens;
