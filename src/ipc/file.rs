//! The file of a segment: its name, owner, memory and locks. It knows nothing of the file's content.
//!
//! Locks are *open file description* locks on single bytes. Byte 0 is the **door**: a process holds it while it
//! creates, takes over, joins or removes a segment. Bytes 1 to 64 are the **tokens** of the members. A process holds
//! byte 65 while it copies records into the history. These bytes mean the same in every layout version, and have
//! nothing to do with the file's content.

use std::fs::metadata;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::sys::statvfs::statvfs;
use nix::unistd::{ftruncate, geteuid};

use super::error::BusError;
use super::fork::UnsharedFd;
use super::layout::{MAX_MEMBERS, MAX_NAME_BYTES};

/// The folder of POSIX shared memory on Linux.
const FOLDER: &str = "/dev/shm";
/// The beginning of the file name of each bus.
const PREFIX: &str = "fanbus.";
/// Read and write for the owner, nothing for others.
const MODE: u32 = 0o600;

const DOOR: i64 = 0;
const TOKENS: i64 = 1;
const ARCHIVE_LOCK: i64 = TOKENS + MAX_MEMBERS as i64;
/// Pause between two attempts to lock the door. Opening takes milliseconds, and no fairness is needed.
const DOOR_RETRY: Duration = Duration::from_millis(1);

/// An opened segment file. A forked child does not share it, and so holds none of its locks.
#[derive(Debug)]
pub(super) struct SegmentFile {
    fd: UnsharedFd,
    name: String,
}

/// Whether `name` may name a bus.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(allowed)
}

/// The name of a bus's segment for the operating system.
pub(super) fn os_name(name: &str) -> String {
    format!("/{PREFIX}{name}")
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("{FOLDER}{}", os_name(name)))
}

/// The names in the folder that may be buses, of all users, in order.
pub(super) fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(FOLDER)? {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|name| name.strip_prefix(PREFIX));
        names.extend(name.filter(|name| is_name(name)).map(String::from));
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes that are free in /dev/shm. If that cannot be found out, it is no error: `fallocate` decides.
pub(super) fn free_bytes() -> u64 {
    statvfs(FOLDER).map_or(u64::MAX, |space| {
        space.blocks_available() * space.fragment_size()
    })
}

impl SegmentFile {
    /// `None` if there is no such file.
    pub(super) fn open(name: &str) -> Result<Option<SegmentFile>, BusError> {
        SegmentFile::open_with(name, OFlag::empty(), Errno::ENOENT)
    }

    /// `None` if there is such a file already.
    pub(super) fn create(name: &str) -> Result<Option<SegmentFile>, BusError> {
        SegmentFile::open_with(name, OFlag::O_CREAT | OFlag::O_EXCL, Errno::EEXIST)
    }

    fn open_with(
        name: &str,
        flags: OFlag,
        no_such: Errno,
    ) -> Result<Option<SegmentFile>, BusError> {
        let flags = flags | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(MODE);
        let opened = UnsharedFd::open(|| Ok([shm_open(os_name(name).as_str(), flags, mode)?]));
        match opened {
            Ok([fd]) => {
                let file = SegmentFile {
                    fd,
                    name: name.into(),
                };
                if flags.contains(OFlag::O_CREAT) {
                    // The process's umask may have taken bits away.
                    fchmod(&file.fd, mode).map_err(|error| file.os("set the mode of", error))?;
                }
                Ok(Some(file))
            }
            Err(error) if error.raw_os_error() == Some(no_such as i32) => Ok(None),
            // The usual reason: another user's bus has that name.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let owner = metadata(path(name)).map_or(u32::MAX, |found| found.uid());
                Err(BusError::OtherOwner {
                    path: path(name),
                    owner,
                    user: geteuid().as_raw(),
                })
            }
            Err(source) => Err(BusError::Os {
                doing: "open",
                path: path(name),
                source,
            }),
        }
    }

    /// The name of the bus.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn os(&self, doing: &'static str, error: impl Into<io::Error>) -> BusError {
        BusError::Os {
            doing,
            path: path(&self.name),
            source: error.into(),
        }
    }

    fn stat(&self) -> Result<FileStat, BusError> {
        fstat(&self.fd).map_err(|error| self.os("look at", error))
    }

    pub(super) fn bytes(&self) -> Result<u64, BusError> {
        Ok(self.stat()?.st_size as u64)
    }

    /// Memory that is reserved for the file, in bytes. Its length is another number.
    pub(super) fn reserved_bytes(&self) -> Result<u64, BusError> {
        const BLOCK_BYTES: u64 = 512; // the unit of stat(2), whatever the file system's is
        Ok(self.stat()?.st_blocks as u64 * BLOCK_BYTES)
    }

    /// Refuses a segment that others could have made or could change.
    pub(super) fn check_owner(&self) -> Result<(), BusError> {
        let found = self.stat()?;
        let (owner, user) = (found.st_uid, geteuid().as_raw());
        if owner != user {
            return Err(BusError::OtherOwner {
                path: path(&self.name),
                owner,
                user,
            });
        }
        let mode = found.st_mode & 0o777;
        if mode != MODE {
            return Err(BusError::OtherMode {
                path: path(&self.name),
                mode,
            });
        }
        Ok(())
    }

    /// Whether the name still leads to this file. Stays true while the door is held, because a process that unlinks
    /// holds it too.
    pub(super) fn is_still_named(&self) -> Result<bool, BusError> {
        let mine = self.stat()?;
        match metadata(path(&self.name)) {
            Ok(named) => Ok((named.dev(), named.ino()) == (mine.st_dev, mine.st_ino)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.os("look at", error)),
        }
    }

    /// Removes the name. The caller holds the door, and the name is this file's.
    pub(super) fn unlink(&self) -> Result<(), BusError> {
        match shm_unlink(os_name(&self.name).as_str()) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.os("remove", error)),
        }
    }

    /// Sets the file's length. That reserves nothing.
    pub(super) fn set_bytes(&self, bytes: usize) -> Result<(), BusError> {
        ftruncate(&self.fd, bytes as i64).map_err(|error| self.os("enlarge", error))
    }

    /// Reserves memory for a part of the file, so that touching it later cannot fail.
    pub(super) fn reserve(&self, part: &Range<usize>) -> Result<(), BusError> {
        let bytes = part.len();
        loop {
            match fallocate(
                &self.fd,
                FallocateFlags::empty(),
                part.start as i64,
                bytes as i64,
            ) {
                Ok(()) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOSPC | Errno::ENOMEM) => {
                    let name = self.name.clone();
                    return Err(BusError::OutOfMemory {
                        name,
                        bytes: bytes as u64,
                        free: free_bytes(),
                    });
                }
                Err(error) => return Err(self.os("reserve memory for", error)),
            }
        }
    }

    /// Locks the door, and waits while another process holds it.
    pub(super) fn lock_door(&self, deadline: Instant) -> Result<(), BusError> {
        while !self.lock(libc::F_WRLCK, DOOR)? {
            if Instant::now() >= deadline {
                return Err(BusError::Busy {
                    name: self.name.clone(),
                });
            }
            thread::park_timeout(DOOR_RETRY);
        }
        Ok(())
    }

    pub(super) fn unlock_door(&self) -> Result<(), BusError> {
        self.lock(libc::F_UNLCK, DOOR).map(drop)
    }

    /// Takes the token of a slot. False: another member has it. True also if this open file has it already.
    pub(super) fn take_token(&self, slot: u8) -> Result<bool, BusError> {
        self.lock(libc::F_WRLCK, TOKENS + i64::from(slot))
    }

    pub(super) fn release_token(&self, slot: u8) -> Result<(), BusError> {
        self.lock(libc::F_UNLCK, TOKENS + i64::from(slot)).map(drop)
    }

    /// Takes the lock for archiving. False: another process has it. True also if this open file has it already.
    pub(super) fn take_archive_lock(&self) -> Result<bool, BusError> {
        self.lock(libc::F_WRLCK, ARCHIVE_LOCK)
    }

    pub(super) fn release_archive_lock(&self) -> Result<(), BusError> {
        self.lock(libc::F_UNLCK, ARCHIVE_LOCK).map(drop)
    }

    /// Whether another member holds a token.
    pub(super) fn has_members(&self) -> Result<bool, BusError> {
        self.is_held(TOKENS, MAX_MEMBERS as i64)
    }

    /// Whether another member holds the token of a slot. Takes nothing, unlike [`SegmentFile::take_token`], so that an
    /// inspection disturbs no process.
    pub(super) fn is_token_held(&self, slot: u8) -> Result<bool, BusError> {
        self.is_held(TOKENS + i64::from(slot), 1)
    }

    fn is_held(&self, start: i64, bytes: i64) -> Result<bool, BusError> {
        let mut lock = byte_lock(libc::F_WRLCK, start, bytes);
        fcntl(&self.fd, FcntlArg::F_OFD_GETLK(&mut lock))
            .map_err(|error| self.os("look at the locks of", error))?;
        Ok(lock.l_type != libc::F_UNLCK as i16)
    }

    fn lock(&self, kind: libc::c_int, byte: i64) -> Result<bool, BusError> {
        match fcntl(&self.fd, FcntlArg::F_OFD_SETLK(&byte_lock(kind, byte, 1))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(self.os("lock", error)),
        }
    }
}

fn byte_lock(kind: libc::c_int, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0, // required for locks of open file descriptions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "chat-5000", "A.b_c-9", &"x".repeat(64)] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in [
            "",
            ".hidden",
            "a/b",
            "..",
            "a b",
            "ä",
            "nul\0",
            &"x".repeat(65),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_lock_belongs_to_the_description_and_not_to_the_process() {
        let name = format!("test-file-{}", std::process::id());
        let first = SegmentFile::create(&name)
            .expect("memory")
            .expect("a new name");
        let second = SegmentFile::open(&name)
            .expect("ours")
            .expect("it is there");
        assert!(SegmentFile::create(&name).expect("no error").is_none());
        first.check_owner().expect("we made it");

        assert!(first.take_token(7).expect("a lock"));
        assert!(
            first.take_token(7).expect("a lock"),
            "again from the same description"
        );
        assert!(!second.take_token(7).expect("a lock"));
        assert!(second.has_members().expect("a look"));
        assert!(
            !first.has_members().expect("a look"),
            "its own token does not count"
        );
        drop(first);
        assert!(!second.has_members().expect("a look"));
        assert!(second.take_token(7).expect("a lock"));

        assert!(second.is_still_named().expect("a look"));
        second.unlink().expect("ours");
        assert!(!second.is_still_named().expect("a look"));
    }
}
