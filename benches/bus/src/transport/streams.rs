//! The transports of the kernel, one stream from each producer to each reader: Unix sockets, and pipes.
//!
//! One write for each message and reader. A reader takes all that is there with one read, up to 256 KiB or a message.
//! All messages of a run have one size, so no length is needed.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{read, write};

use super::{Publish, Read};
use crate::Outcome;
use crate::task::{Patience, Task};

/// Bytes that a pipe and a socket may hold: the most that Linux allows without privileges.
const PIPE_BYTES: i32 = 1 << 20;
const SOCKET_BYTES: usize = 212_992;
/// Bytes that a reader takes at once.
const READ_BYTES: usize = 256 << 10;

fn socket_path(task: &Task, reader: usize) -> PathBuf {
    task.folder.join(format!("reader-{reader}"))
}

fn pipe_path(task: &Task, producer: usize, reader: usize) -> PathBuf {
    task.folder.join(format!("pipe-{producer}-{reader}"))
}

pub(super) struct Writer {
    sinks: Vec<OwnedFd>,
}

impl Writer {
    pub(super) fn sockets(task: &Task) -> Outcome<Writer> {
        let open = |reader| {
            let socket = UnixStream::connect(socket_path(task, reader))?;
            setsockopt(&socket, sockopt::SndBuf, &SOCKET_BYTES)?;
            Ok(OwnedFd::from(socket))
        };
        let sinks = (0..task.readers).map(open).collect::<Outcome<_>>()?;
        Ok(Writer { sinks })
    }

    pub(super) fn pipes(task: &Task) -> Outcome<Writer> {
        let open = |reader| {
            let path = pipe_path(task, task.number, reader);
            let pipe = OpenOptions::new().write(true).open(path)?;
            fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))?;
            Ok(OwnedFd::from(pipe))
        };
        let sinks = (0..task.readers).map(open).collect::<Outcome<_>>()?;
        Ok(Writer { sinks })
    }
}

impl Publish for Writer {
    fn publish(&mut self, message: &[u8]) -> Outcome<()> {
        for sink in &self.sinks {
            let mut left = message;
            while !left.is_empty() {
                match write(sink, left) {
                    Ok(count) => left = &left[count..],
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

pub(super) struct Reader {
    listener: Option<UnixListener>,
    sources: Vec<Source>,
    producers: usize,
    bytes: usize,
    /// With one source, a sleeping reader sleeps in `read` itself.
    blocks: bool,
}

/// One stream, and its read bytes.
struct Source {
    stream: OwnedFd,
    buffer: Vec<u8>,
    /// The bytes in the buffer that have not been handed over.
    start: usize,
    end: usize,
}

impl Reader {
    pub(super) fn sockets(task: &Task) -> Outcome<Reader> {
        let mut reader = Reader::new(task);
        reader.listener = Some(UnixListener::bind(socket_path(task, task.number))?);
        Ok(reader)
    }

    pub(super) fn pipes(task: &Task) -> Outcome<Reader> {
        let mut reader = Reader::new(task);
        for producer in 0..task.producers {
            let path = pipe_path(task, producer, task.number);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
            // Otherwise it would wait for the producer, which comes later.
            let flags = OFlag::O_NONBLOCK.bits();
            let pipe = OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)?;
            reader.add(pipe.into());
        }
        Ok(reader)
    }

    fn new(task: &Task) -> Reader {
        Reader {
            listener: None,
            sources: Vec::new(),
            producers: task.producers,
            bytes: task.bytes,
            blocks: task.producers == 1 && task.patience == Patience::Sleep,
        }
    }

    fn add(&mut self, stream: OwnedFd) {
        self.sources.push(Source {
            stream,
            buffer: vec![0; READ_BYTES.max(2 * self.bytes)],
            start: 0,
            end: 0,
        });
    }
}

impl Source {
    /// Hands over the whole messages that are here.
    fn drain(&mut self, bytes: usize, each: &mut impl FnMut(&[u8])) -> usize {
        let whole = (self.end - self.start) / bytes;
        let messages = &self.buffer[self.start..self.start + whole * bytes];
        messages.chunks_exact(bytes).for_each(each);
        self.start += whole * bytes;
        whole
    }

    /// Reads the bytes that are in the stream. Waits for them if the stream blocks.
    fn fill(&mut self) -> Outcome<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match read(&self.stream, &mut self.buffer[self.end..]) {
            Ok(count) => self.end += count,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Read for Reader {
    fn connect(&mut self) -> Outcome<()> {
        if let Some(listener) = self.listener.take() {
            for _ in 0..self.producers {
                self.add(listener.accept()?.0.into());
            }
        }
        for source in &self.sources {
            let flags = if self.blocks {
                OFlag::empty()
            } else {
                OFlag::O_NONBLOCK
            };
            fcntl(&source.stream, FcntlArg::F_SETFL(flags))?;
        }
        Ok(())
    }

    #[inline]
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let mut count = 0;
        for source in &mut self.sources {
            if !self.blocks {
                source.fill()?;
            }
            count += source.drain(self.bytes, each);
        }
        Ok(count)
    }

    fn wait(&mut self) -> Outcome<()> {
        if self.blocks {
            return self.sources[0].fill();
        }
        let streams = self.sources.iter().map(|source| source.stream.as_fd());
        let mut fds: Vec<_> = streams
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::NONE)?;
        Ok(())
    }
}
