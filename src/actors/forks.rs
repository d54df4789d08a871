//! The fork handler that withholds descriptors of a worker from forked children: its listener, its clients'
//! connections, and the descriptors that its threads wait on.
//!
//! A socket is open until its last copy is closed. If children held copies, a port would accept connections after
//! its server has ended, and the clients of a dead worker would never notice its end. So in a forked child the same
//! numbers lead to `/dev/null`, as those of the bus do. The objects that own them stay valid there, and may close
//! them.
//!
//! Sockets come and go with each connection, and many owners close them. So they are not listed: the child finds
//! them by their local address, which is that of the listener. All other descriptors are few, and live as long as
//! their worker. They are listed with the file that each leads to.
#![allow(unsafe_code)] // A fork handler may do nothing but system calls.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{
    AtomicI32, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use nix::libc;
use nix::sys::stat::fstat;

/// The most addresses that this process serves at a time.
const MOST_PLACES: usize = 64;
static PLACES: [AtomicU64; MOST_PLACES] = [const { AtomicU64::new(NOWHERE) }; MOST_PLACES];
/// No address.
const NOWHERE: u64 = 0;

/// Other descriptors that a child does not get.
const MOST_LISTED: usize = 1024;
static LISTED: [Listed; MOST_LISTED] = [const { Listed::new() }; MOST_LISTED];

/// The largest number that a connection has had here.
static HIGHEST: AtomicI32 = AtomicI32::new(0);

/// The number of forks among this process's ancestors. It grows in the child.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// `/dev/null`, for the child. -1: no handler is installed.
static NULL: AtomicI32 = AtomicI32::new(-1);

/// A connection gets the lowest free number. So a connection that was accepted a moment ago, and is not in
/// `HIGHEST` yet, never has so many free numbers before it.
const FREE_IN_A_ROW: i32 = 256;

/// A descriptor with a number, and the file that it must lead to: another descriptor may have the number by now.
struct Listed {
    /// -1: this place is free; -2: it is being filled.
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Listed {
    const fn new() -> Self {
        Self {
            fd: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
        }
    }
}

/// An address that this process serves, until it is dropped.
#[derive(Debug)]
pub struct Served {
    at: usize,
    generation: u32,
}

impl Served {
    /// Children get no socket whose local address is that of `listener`.
    pub fn new(listener: BorrowedFd<'_>) -> io::Result<Self> {
        watch()?;
        let place = place_of(listener.as_raw_fd()).ok_or_else(io::Error::last_os_error)?;
        note(listener);
        let free = |each: &AtomicU64| {
            each.compare_exchange(NOWHERE, place, Release, Relaxed)
                .is_ok()
        };
        let at = PLACES.iter().position(free).ok_or_else(|| {
            io::Error::other(format!("this process serves {MOST_PLACES} addresses"))
        })?;
        Ok(Self {
            at,
            generation: GENERATION.load(Relaxed),
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // In a forked child the place is free already, and may have another owner.
        if self.generation == GENERATION.load(Relaxed) {
            PLACES[self.at].store(NOWHERE, Relaxed);
        }
    }
}

/// Notes that a connection was accepted. Its end needs no call.
pub fn note(connection: BorrowedFd<'_>) {
    HIGHEST.fetch_max(connection.as_raw_fd(), Relaxed);
}

/// Descriptors that a child does not get, until this is dropped.
#[derive(Debug, Default)]
pub struct Withheld {
    places: Vec<usize>,
    generation: u32,
}

impl Withheld {
    /// Returns an error if the list is full. A number that is not open is left out.
    pub fn new(descriptors: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        watch()?;
        let mut withheld = Self {
            places: Vec::new(),
            generation: GENERATION.load(Relaxed),
        };
        for fd in descriptors {
            let Some((device, inode)) = identity(fd) else {
                continue;
            };
            let free = |each: &Listed| each.fd.compare_exchange(-1, -2, Relaxed, Relaxed).is_ok();
            let at = LISTED.iter().position(free).ok_or_else(|| {
                io::Error::other(format!("{MOST_LISTED} descriptors are withheld already"))
            })?;
            LISTED[at].device.store(device, Relaxed);
            LISTED[at].inode.store(inode, Relaxed);
            LISTED[at].fd.store(fd, Release);
            withheld.places.push(at);
        }
        Ok(withheld)
    }

    /// Withholds the descriptors that were opened after [`open_now`] returned `before`.
    pub fn since(before: &[(RawFd, String)]) -> io::Result<Self> {
        let mut new = open_now()?;
        new.retain(|descriptor| !before.contains(descriptor));
        Self::new(new.into_iter().map(|(fd, _)| fd))
    }
}

impl Drop for Withheld {
    fn drop(&mut self) {
        if self.generation == GENERATION.load(Relaxed) {
            for at in &self.places {
                LISTED[*at].fd.store(-1, Relaxed);
            }
        }
    }
}

/// The sockets, pipes and event descriptors that this process has open. Each comes with the file that it leads to,
/// since another descriptor may have the number later.
pub fn open_now() -> io::Result<Vec<(RawFd, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // A descriptor that was closed meanwhile, such as that of this directory, is skipped.
        let (Ok(target), Some(name)) = (
            fs::read_link(entry.path()),
            entry.file_name().into_string().ok(),
        ) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let is_wanted = ["socket:", "pipe:", "anon_inode:"]
            .iter()
            .any(|kind| target.starts_with(kind));
        if let (true, Ok(fd)) = (is_wanted, name.parse()) {
            found.push((fd, target));
        }
    }
    Ok(found)
}

fn identity(fd: RawFd) -> Option<(u64, u64)> {
    // SAFETY: the call only borrows it; if it is not open, the call fails with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let stat = fstat(borrowed).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// A number for the local address of a stream socket: its port, or a hash of its path. A listener and the
/// connections that it accepts have the same number. None: it is not a stream socket.
fn place_of(fd: RawFd) -> Option<u64> {
    // SAFETY: all zeros are a socket address of no family.
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: both pointers lead to memory that the kernel may fill, and `length` says how large it is.
    let failed = unsafe { libc::getsockname(fd, (&raw mut address).cast(), &raw mut length) };
    if failed != 0 {
        return None;
    }
    let port = match i32::from(address.ss_family) {
        // SAFETY: the family says which address this is; the storage is large and aligned enough.
        libc::AF_INET => unsafe { (*(&raw const address).cast::<libc::sockaddr_in>()).sin_port },
        // SAFETY: as above.
        libc::AF_INET6 => unsafe { (*(&raw const address).cast::<libc::sockaddr_in6>()).sin6_port },
        libc::AF_UNIX => {
            let used = (length as usize).min(size_of_val(&address));
            // SAFETY: the kernel has filled `used` bytes, and the rest are zeros.
            let bytes =
                unsafe { std::slice::from_raw_parts((&raw const address).cast::<u8>(), used) };
            let path = bytes.get(size_of::<libc::sa_family_t>()..)?;
            return (!path.is_empty()).then(|| hash(path) | 1 << 63);
        }
        _ => return None,
    };
    (port != 0 && is_stream(fd)).then(|| 1 << 32 | u64::from(port))
}

fn is_stream(fd: RawFd) -> bool {
    let mut kind: libc::c_int = 0;
    let mut length = size_of_val(&kind) as libc::socklen_t;
    // SAFETY: both pointers lead to memory that the kernel may fill, and `length` says how large it is.
    let failed = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut length,
        )
    };
    failed == 0 && kind == libc::SOCK_STREAM
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Installs the handler, once.
fn watch() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    // [F2] Pairs with [F1]: a thread that sees the number may rely on the handler.
    if NULL.load(Acquire) < 0 {
        let null = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        INSTALLED.call_once(|| {
            // SAFETY: the handler is a function of this library, which is never unloaded. A handler that runs
            // before the number is stored has nothing to withhold.
            let failed = unsafe { libc::pthread_atfork(None, None, Some(withhold_all)) };
            assert_eq!(failed, 0, "no memory for a fork handler");
            // [F1] Pairs with [F2].
            NULL.store(null.into_raw_fd(), Release);
        });
    }
    Ok(())
}

/// In the child, before `fork` returns: only atomics and system calls. No other thread exists.
extern "C" fn withhold_all() {
    GENERATION.fetch_add(1, Relaxed);
    for listed in &LISTED {
        let fd = listed.fd.swap(-1, Relaxed);
        let expected = (listed.device.load(Relaxed), listed.inode.load(Relaxed));
        if fd >= 0 && identity(fd) == Some(expected) {
            lead_nowhere(fd);
        }
    }
    if PLACES.iter().all(|place| place.load(Relaxed) == NOWHERE) {
        return;
    }
    let highest = HIGHEST.load(Relaxed);
    let (mut fd, mut free_in_a_row) = (0, 0);
    while fd <= highest || free_in_a_row < FREE_IN_A_ROW {
        match place_of(fd) {
            Some(place) if PLACES.iter().any(|each| each.load(Relaxed) == place) => {
                lead_nowhere(fd);
            }
            Some(_) => free_in_a_row = 0,
            None if is_open(fd) => free_in_a_row = 0,
            None => free_in_a_row += 1,
        }
        fd += 1;
    }
    for place in &PLACES {
        place.store(NOWHERE, Relaxed);
    }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: it takes a number, and changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

fn lead_nowhere(fd: RawFd) {
    // SAFETY: both numbers are open descriptors of this process. The owner of `fd` still owns it afterwards.
    unsafe { libc::dup3(NULL.load(Relaxed), fd, libc::O_CLOEXEC) };
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_connection_has_the_place_of_its_listener_and_its_client_has_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client");
        let place = place_of(listener.as_raw_fd());
        assert!(place.is_some());
        assert_eq!(place_of(accepted.as_raw_fd()), place);
        assert_ne!(place_of(client.as_raw_fd()), place);
        let datagrams = UdpSocket::bind(address).expect("UDP has ports of its own");
        assert_eq!(place_of(datagrams.as_raw_fd()), None);
    }

    #[test]
    fn a_unix_socket_has_the_place_of_its_path() {
        let path = std::env::temp_dir().join(format!("fanbus-forks-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a free path");
        let client = UnixStream::connect(&path).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client");
        fs::remove_file(&path).expect("it is there");
        let place = place_of(listener.as_raw_fd());
        assert!(place.is_some());
        assert_eq!(place_of(accepted.as_raw_fd()), place);
        assert_eq!(place_of(client.as_raw_fd()), None);
    }

    #[test]
    fn what_is_withheld_is_listed_until_it_is_dropped() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let fd = one.as_fd().as_raw_fd();
        let is_listed = || LISTED.iter().any(|each| each.fd.load(Relaxed) == fd);
        let withheld = Withheld::new([fd]).expect("there is room");
        assert!(is_listed());
        drop(withheld);
        assert!(!is_listed());
    }
}
