//! The conformance suite of the bus, with real processes.

mod life;
mod process;
mod roles;
mod traffic;

/// Not a test: what another process of these tests does. In the test process it does nothing.
#[test]
fn actor() {
    if let Some((role, bus)) = process::role() {
        roles::play(&role, &bus);
    }
}
