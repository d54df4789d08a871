//! The reader of the kernel's page cache: it reads files on the I/O thread, and never waits for a disk.

#![allow(unsafe_code)] // No crate of ours has a safe call that reads only what is in memory.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

/// Reads into the spare capacity of `buffer`, at most `count` bytes from `at` on. Returns 0 at the end of the file.
/// [`ErrorKind::WouldBlock`]: the bytes are not in memory, or the file system cannot tell.
#[cfg(target_os = "linux")]
pub(super) fn read(file: &File, buffer: &mut Vec<u8>, count: usize, at: u64) -> io::Result<usize> {
    buffer.reserve(count);
    let spare = &mut buffer.spare_capacity_mut()[..count];
    let slice = libc::iovec {
        iov_base: spare.as_mut_ptr().cast(),
        iov_len: spare.len(),
    };
    let at = libc::off_t::try_from(at).map_err(|_| ErrorKind::InvalidInput)?;
    // SAFETY: the slice is the spare capacity of the vector, which has no other user.
    let read =
        unsafe { libc::preadv2(file.as_raw_fd(), &raw const slice, 1, at, libc::RWF_NOWAIT) };
    let Ok(read) = usize::try_from(read) else {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => ErrorKind::WouldBlock.into(),
            _ => error,
        });
    };
    // SAFETY: the kernel has initialized this many bytes.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

/// The system has no such call.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_: &File, _: &mut Vec<u8>, _: usize, _: u64) -> io::Result<usize> {
    Err(ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_bytes_are_appended_to_the_buffer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, b"0123456789").expect("a file");
        let file = File::open(&path).expect("it is there");
        let mut buffer = b"before".to_vec();
        match read(&file, &mut buffer, 3, 4) {
            Ok(count) => assert_eq!((count, &buffer[..]), (3, &b"before456"[..])),
            // The file system of this machine does not support the call.
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let at_the_end = read(&file, &mut Vec::new(), 3, 10);
        assert!(at_the_end.is_ok_and(|count| count == 0) || !cfg!(target_os = "linux"));
        assert!(read(&file, &mut Vec::new(), 3, u64::MAX).is_err());
    }
}
