//! The spool file that stores a body for which there is no memory. It has no name, so it disappears when it is
//! closed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use tokio::task::spawn_blocking;

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// A body in a file, which is read once from its beginning to its end.
#[derive(Debug)]
pub(super) struct Spool {
    /// None while a call on another thread uses it.
    file: Option<File>,
    at: usize,
    len: usize,
}

impl Spool {
    /// Writes a whole body, and frees its memory.
    pub(super) async fn write(body: Bytes) -> io::Result<Self> {
        on_disk(move || {
            let file = tempfile::tempfile()?;
            file.write_all_at(&body, 0)?;
            Ok(Self {
                file: Some(file),
                at: 0,
                len: body.len(),
            })
        })
        .await
    }

    /// The next chunk. None at the end, and after an error.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let size = (self.len - self.at).min(READ_BYTES);
        let Some(file) = self.file.take().filter(|_| size > 0) else {
            return Ok(None);
        };
        let at = self.at as u64;
        let (file, chunk) = on_disk(move || {
            let mut chunk = vec![0; size];
            file.read_exact_at(&mut chunk, at)?;
            Ok((file, Bytes::from(chunk)))
        })
        .await?;
        self.file = Some(file);
        self.at += size;
        Ok(Some(chunk))
    }
}

/// Runs a call that may wait for a disk on another thread.
pub(super) async fn on_disk<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = spawn_blocking(call).await;
    done.map_err(io::Error::other).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spool_returns_the_body_unchanged() {
        for len in [0, 1, READ_BYTES, READ_BYTES * 2 + 1] {
            let body: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut spool = Spool::write(body.clone().into()).await.expect("a disk");
            let mut read = Vec::new();
            while let Some(chunk) = spool.next().await.expect("a disk") {
                read.extend_from_slice(&chunk);
            }
            assert_eq!(read, body);
        }
    }
}
