//! The conformance suite of the bus, with real processes.

#[cfg(target_arch = "x86_64")]
mod archiving;
mod backpressure;
mod crowd;
mod history;
mod identity;
#[cfg(target_arch = "x86_64")] // stepping through an LL/SC loop never leaves it
mod killpoints;
mod life;
mod memory;
mod pace;
mod process;
mod quiet;
mod refusals;
mod replay;
mod reservation;
mod roles;
mod scene;
mod stepped;
mod torture;
mod traffic;

/// Not a test: the entry of the other processes of these tests. In the test process it does nothing.
#[test]
fn actor() {
    if let Some((role, bus)) = process::role() {
        roles::play(&role, &bus);
    }
}
