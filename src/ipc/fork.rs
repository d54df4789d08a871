//! The list of descriptors that are closed in a forked child, and the fork handlers that close them.
//!
//! A lock of an open file description lives as long as any copy of the descriptor. If children had copies, a worker
//! that was killed would count as alive until its last child has ended.
#![allow(unsafe_code)] // Fork handlers and `dup3` over a descriptor need it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Once;

use nix::libc;

use super::sync::{Ordering, process};

/// Descriptors of this process that a forked child must not hold. Three for each open bus.
const MAX_LISTED: usize = 1024;
static LISTED: [process::AtomicI32; MAX_LISTED] =
    [const { process::AtomicI32::new(NO_FD) }; MAX_LISTED];
const NO_FD: RawFd = -1;
/// Held while descriptors are opened and closed, and by a thread that forks: so no descriptor exists that is not in the
/// list.
static GATE: process::AtomicBool = process::AtomicBool::new(false);
/// The number of forks between the process that opened the first bus and this one. Grows in the child.
static GENERATION: process::AtomicU32 = process::AtomicU32::new(0);
/// `/dev/null`, for the child.
static NOWHERE: process::AtomicI32 = process::AtomicI32::new(NO_FD);

/// The fork generation of this process.
#[inline]
pub(super) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A descriptor that a forked child does not share: there the same number leads to `/dev/null`.
#[derive(Debug)]
pub(super) struct UnsharedFd {
    /// Taken only by drop.
    fd: Option<OwnedFd>,
    /// Its index in `LISTED`.
    index: usize,
    generation: u32,
}

impl UnsharedFd {
    /// Opens descriptors with no fork in between.
    pub(super) fn open<const N: usize>(
        make: impl FnOnce() -> io::Result<[OwnedFd; N]>,
    ) -> io::Result<[UnsharedFd; N]> {
        watch_forks()?;
        let gate = Gate::enter();
        let unshared = make()?.map(UnsharedFd::list);
        drop(gate);
        // If one finds no place in the list, the others are closed with the error.
        unshared
            .into_iter()
            .collect::<io::Result<Vec<_>>>()
            .map(|unshared| <[UnsharedFd; N]>::try_from(unshared).expect("as many as were made"))
    }

    fn list(fd: OwnedFd) -> io::Result<UnsharedFd> {
        let free = |place: &process::AtomicI32| place.load(Ordering::Relaxed) == NO_FD;
        let index = LISTED.iter().position(free).ok_or_else(too_many)?;
        LISTED[index].store(fd.as_raw_fd(), Ordering::Relaxed);
        Ok(UnsharedFd {
            fd: Some(fd),
            index,
            generation: generation(),
        })
    }
}

fn too_many() -> io::Error {
    io::Error::other(format!(
        "this process has more than {} buses open",
        MAX_LISTED / 3
    ))
}

impl AsFd for UnsharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("only drop takes it").as_fd()
    }
}

impl Drop for UnsharedFd {
    fn drop(&mut self) {
        let _gate = Gate::enter();
        // In a forked child the place was cleared, and may belong to another descriptor by now.
        if self.generation == generation() {
            LISTED[self.index].store(NO_FD, Ordering::Relaxed);
        }
        self.fd = None;
    }
}

/// The guard of the gate, which fork handlers may take too. Held for a few system calls at most.
struct Gate;

impl Gate {
    fn enter() -> Gate {
        lock_gate();
        Gate
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        unlock_gate();
    }
}

extern "C" fn lock_gate() {
    // [G1] Pairs with [G2]: a thread that enters sees the list as the last one left it.
    while GATE.swap(true, Ordering::Acquire) {
        std::thread::yield_now();
    }
}

extern "C" fn unlock_gate() {
    // [G2] Pairs with [G1].
    GATE.store(false, Ordering::Release);
}

/// In the child, before `fork` returns: only atomics and system calls. No other thread exists.
extern "C" fn abandon() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let nowhere = NOWHERE.load(Ordering::Relaxed);
    for place in &LISTED {
        let fd = place.swap(NO_FD, Ordering::Relaxed);
        if fd != NO_FD {
            // SAFETY: both numbers are open descriptors of this process, and `fd` keeps its owner.
            unsafe { libc::dup3(nowhere, fd, libc::O_CLOEXEC) };
        }
    }
    unlock_gate();
}

/// Installs the handlers, once.
fn watch_forks() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    // [G4] Pairs with [G3]: a thread that sees the number may rely on the handlers.
    if NOWHERE.load(Ordering::Acquire) == NO_FD {
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        INSTALLED.call_once(|| {
            // SAFETY: the handlers are functions of this library, which is never unloaded. One that
            // runs before the number is stored has no descriptors to close.
            let failed =
                unsafe { libc::pthread_atfork(Some(lock_gate), Some(unlock_gate), Some(abandon)) };
            assert_eq!(failed, 0, "no memory for three fork handlers");
            // [G3] Pairs with [G4].
            NOWHERE.store(null.into_raw_fd(), Ordering::Release);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn null() -> io::Result<[OwnedFd; 1]> {
        Ok([File::open("/dev/null")?.into()])
    }

    #[test]
    fn an_unshared_descriptor_is_listed_until_it_is_closed() {
        let [unshared] = UnsharedFd::open(null).expect("/dev/null");
        let (index, number) = (unshared.index, unshared.as_fd().as_raw_fd());
        assert_eq!(LISTED[index].load(Ordering::Relaxed), number);
        drop(unshared);
        assert_ne!(LISTED[index].load(Ordering::Relaxed), number);
    }
}
