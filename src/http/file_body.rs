//! The body of a response that is a part of a file.
//!
//! Bytes in the page cache are read or sent on the I/O thread. For others a thread of the pool waits for the disk.
//! The figures are in `docs/architecture.md`.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::page_cache;

/// Bytes per read: one TLS record. A client that does not read holds no more than this.
const CHUNK_BYTES: usize = 16 << 10;

/// A part of at most this size is read at once: one write for head and content costs less than two.
pub(super) const SMALL_BYTES: u64 = 32 << 10;

/// Bytes that are sent before other connections have their turn.
const TURN_BYTES: usize = 512 << 10;

/// A range of a file that is not sent yet.
#[derive(Debug)]
pub(super) struct FileBody {
    file: Arc<File>,
    at: u64,
    left: u64,
    /// A thread waits for the disk.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileBody {
    /// The `count` bytes from `at` on.
    pub(super) fn new(file: File, at: u64, count: u64) -> Self {
        Self {
            file: Arc::new(file),
            at,
            left: count,
            reading: None,
        }
    }

    /// The number of bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Reads a small part whole. Returns fewer bytes if the file has shrunk.
    pub(super) async fn read(self) -> io::Result<Bytes> {
        let Self { file, at, left, .. } = self;
        let count = usize::try_from(left).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        match page_cache::read(&file, &mut bytes, count, at) {
            Ok(read) if read == count => Ok(bytes.into()),
            _ => {
                let read = spawn_blocking(move || read_at(&file, count, at)).await;
                read.map_err(io::Error::other).flatten().map(Bytes::from)
            }
        }
    }

    /// Sends the file to a socket without copying it. `progress` is called whenever the kernel accepts bytes.
    #[cfg(target_os = "linux")]
    pub(super) fn poll_send(
        &mut self,
        socket: &TcpStream,
        task: &mut Context<'_>,
        mut progress: impl FnMut(),
    ) -> Poll<io::Result<()>> {
        use nix::sys::sendfile::sendfile64;

        let mut turn = TURN_BYTES;
        while self.left > 0 {
            if turn == 0 {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(socket.poll_write_ready(task))?;
            ready!(self.poll_in_memory(task))?;
            let count = usize::try_from(self.left).unwrap_or(turn).min(turn);
            let mut at = i64::try_from(self.at).map_err(io::Error::other)?;
            let sent = socket.try_io(Interest::WRITABLE, || {
                Ok(sendfile64(socket, &*self.file, Some(&mut at), count)?)
            });
            match sent {
                Ok(0) => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    self.advance(sent);
                    turn -= sent;
                    progress();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the next bytes are in the page cache. The kernel reads ahead from there.
    #[cfg(target_os = "linux")]
    fn poll_in_memory(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(task));
                self.reading = None;
                // The kernel may have evicted the bytes again by now. Then sending waits for the disk, at worst.
                return Poll::Ready(read.map_err(io::Error::other).flatten().map(|_| ()));
            }
            match page_cache::read(&self.file, &mut Vec::new(), 1, self.at) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                Err(_) => self.read_on_a_thread(TURN_BYTES),
            }
        }
    }

    fn read_on_a_thread(&mut self, most: usize) {
        let (file, at) = (Arc::clone(&self.file), self.at);
        let count = usize::try_from(self.left).unwrap_or(most).min(most);
        self.reading = Some(spawn_blocking(move || read_at(&file, count, at)));
    }

    fn advance(&mut self, count: usize) {
        self.at += count as u64;
        self.left = self.left.saturating_sub(count as u64);
    }
}

impl MessageBody for FileBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let bytes = loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(task));
                self.reading = None;
                break read.map_err(io::Error::other).flatten()?;
            }
            let count = usize::try_from(self.left).unwrap_or(CHUNK_BYTES);
            let mut bytes = Vec::new();
            match page_cache::read(&self.file, &mut bytes, count.min(CHUNK_BYTES), self.at) {
                Ok(_) => break bytes,
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Some(Err(error)));
                }
                Err(_) => self.read_on_a_thread(CHUNK_BYTES),
            }
        };
        if bytes.is_empty() {
            return Poll::Ready(Some(Err(ErrorKind::UnexpectedEof.into())));
        }
        self.advance(bytes.len());
        Poll::Ready(Some(Ok(bytes.into())))
    }
}

/// Reads from a file, and may wait for a disk.
fn read_at(file: &File, count: usize, at: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
