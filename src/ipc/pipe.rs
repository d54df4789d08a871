//! The pipes through which members wake each other.
//!
//! Each member owns a non-blocking pipe that its event loop watches. Others open it through `/proc/PID/fd/N`. So it
//! has no name that could be left over or guessed, needs no common parent, and only processes of the same user can
//! open it.
//!
//! Others open it for reading *and* writing. With writing alone, a write after the owner's death would raise SIGPIPE,
//! and a process that does not ignore that signal would die. The death of a member shows in its token (`membership`).

use std::fs::{File, OpenOptions, metadata};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{pipe2, read, write};

use super::fork::UnsharedFd;
use super::layout::MAX_MEMBERS;
use super::members::{Identity, Table};

/// Pause after a member could not be reached (another PID namespace, no descriptors left). Its own safety tick wakes it
/// meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pipe of this member. In a forked child both ends lead nowhere.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: UnsharedFd,
    writer: UnsharedFd,
    inode: u64,
}

impl Pipe {
    pub(super) fn new() -> io::Result<Pipe> {
        let [reader, writer] = UnsharedFd::open(|| {
            let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
            Ok([reader, writer])
        })?;
        let inode = fstat(&reader)?.st_ino;
        Ok(Pipe {
            reader,
            writer,
            inode,
        })
    }

    /// The reading end, which is readable after a wake-up.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The number under which `/proc/PID/fd` shows it.
    fn number(&self) -> u64 {
        self.reader.as_fd().as_raw_fd() as u64
    }

    /// The identity under which the member table shows this process and its pipe.
    pub(super) fn identity(&self) -> Identity {
        Identity::of_this_process(self.number(), self.inode)
    }

    /// Makes the pipe readable.
    pub(super) fn send_wakeup(&self) -> bool {
        is_sent(write(&self.writer, &[1]).map_err(io::Error::from))
    }

    /// Reads the pipe empty, and returns whether it held anything. Bounded: a pipe holds 64 KiB unless a process
    /// enlarged it. Usually it holds one byte, and a small buffer is zeroed by a few stores.
    pub(super) fn clear(&self) -> bool {
        let mut bytes = [0; 256];
        let mut was_woken = false;
        for _ in 0..256 {
            let count = read(&self.reader, &mut bytes).unwrap_or(0);
            was_woken |= count > 0;
            if count < bytes.len() {
                break;
            }
        }
        was_woken
    }
}

/// Whether the pipe is readable after this write: a full one is too.
fn is_sent(written: io::Result<usize>) -> bool {
    match written {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// The pipes of the other members, each opened at its first wake-up.
#[derive(Debug)]
pub(super) struct MemberPipes {
    pipes: [Mutex<MemberPipe>; MAX_MEMBERS],
}

#[derive(Debug)]
enum MemberPipe {
    Unknown,
    /// The pipe of this incarnation of the slot.
    Open {
        incarnation: u32,
        pipe: File,
    },
    /// It could not be opened at this time.
    Unreachable {
        incarnation: u32,
        since: Instant,
    },
}

impl MemberPipes {
    pub(super) fn new() -> MemberPipes {
        MemberPipes {
            pipes: std::array::from_fn(|_| Mutex::new(MemberPipe::Unknown)),
        }
    }

    /// Makes the pipe of the member in `slot` readable. False: the member cannot be reached.
    pub(super) fn send_wakeup(&self, slot: u8, table: Table<'_>) -> bool {
        let mut pipe = self.pipes[usize::from(slot)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = table.incarnation(slot);
        let known = match &*pipe {
            MemberPipe::Open { incarnation, .. } => *incarnation == now,
            MemberPipe::Unreachable { incarnation, since } => {
                *incarnation == now && since.elapsed() < RETRY_AFTER
            }
            MemberPipe::Unknown => false,
        };
        if !known {
            *pipe = match open(table.identity(slot)) {
                Ok(pipe) => MemberPipe::Open {
                    incarnation: now,
                    pipe,
                },
                Err(_) => MemberPipe::Unreachable {
                    incarnation: now,
                    since: Instant::now(),
                },
            };
        }
        match &*pipe {
            MemberPipe::Open { pipe, .. } => is_sent((&*pipe).write(&[1])),
            _ => false,
        }
    }

    /// Closes the pipe of a member that died.
    pub(super) fn close(&self, slot: u8) {
        *self.pipes[usize::from(slot)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = MemberPipe::Unknown;
    }
}

/// Opens the pipe that the table names, if it is a pipe with the inode of the table. The table is not trusted: other
/// files are not even opened, because opening a device can have effects.
fn open(identity: Identity) -> io::Result<File> {
    let path = format!("/proc/{}/fd/{}", identity.pid, identity.pipe_fd);
    let is_meant = |found: &std::fs::Metadata| {
        found.file_type().is_fifo() && found.ino() == identity.pipe_inode
    };
    if !is_meant(&metadata(&path)?) {
        return Err(ErrorKind::NotFound.into());
    }
    let pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(&path)?;
    if !is_meant(&pipe.metadata()?) {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};

    fn is_readable(pipe: &Pipe) -> bool {
        let mut fds = [PollFd::new(pipe.fd(), PollFlags::POLLIN)];
        poll(&mut fds, 0_u8).expect("poll on one descriptor") == 1
    }

    #[test]
    fn a_pipe_is_readable_from_the_first_wakeup_until_it_is_cleared() {
        let pipe = Pipe::new().expect("a pipe");
        assert!(!is_readable(&pipe));
        assert!(pipe.send_wakeup() && pipe.send_wakeup());
        assert!(is_readable(&pipe));
        pipe.clear();
        assert!(!is_readable(&pipe));
    }

    #[test]
    fn a_wakeup_into_a_full_pipe_succeeds() {
        let pipe = Pipe::new().expect("a pipe");
        while write(&pipe.writer, &[1; 4096]).is_ok() {}
        while write(&pipe.writer, &[1]).is_ok() {}
        assert!(pipe.send_wakeup());
        pipe.clear();
        assert!(!is_readable(&pipe));
    }

    #[test]
    fn only_the_right_pipe_is_opened_through_proc() {
        let pipe = Pipe::new().expect("a pipe");
        let other = Pipe::new().expect("a pipe");
        let identity = pipe.identity();
        assert!(is_sent(open(identity).expect("our own pipe").write(&[1])));
        assert!(is_readable(&pipe));
        let wrong = [
            Identity {
                pipe_fd: other.number(),
                ..identity
            },
            Identity {
                pipe_fd: u64::MAX,
                ..identity
            },
            Identity {
                pipe_inode: 0,
                ..identity
            },
            Identity {
                pid: u64::MAX,
                ..identity
            },
            Identity {
                pid: 0,
                pipe_fd: 0,
                ..identity
            },
        ];
        for identity in wrong {
            assert!(open(identity).is_err(), "{identity:?}");
        }
        assert!(!is_readable(&other));
    }
}
