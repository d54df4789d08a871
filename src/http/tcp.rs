//! The system's view of a TCP connection: how many bytes the peer has acknowledged, and how many are not sent yet.

#![allow(unsafe_code)] // No crate has a safe call for what is asked here.

use std::io::{self, ErrorKind};
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::actors::socket_writer::Acks;

/// Half of the bytes that the system may hold unsent for a client that must get recent messages. Below that, the
/// socket is writable again. Bytes in flight do not count, so a fast client loses no speed.
const UNSENT_BYTES: u32 = 2 << 10;

/// Limits the unsent bytes that the system accepts (`TCP_NOTSENT_LOWAT`, tcp(7)). [`is_drained`] checks them.
pub(super) fn keep_little_unsent(socket: &TcpStream) {
    // A Unix socket does not have this option, and a closed connection does not need it.
    let _ = SockRef::from(socket).set_tcp_notsent_lowat(2 * UNSENT_BYTES);
}

/// Whether the system has sent nearly all bytes that it accepted. If not, the socket counts as not writable until
/// it has. A write would not tell: the system fills up a segment of up to 64 KiB whatever the limit is.
pub(super) fn is_drained(socket: &TcpStream) -> bool {
    let polled = socket.try_io(Interest::WRITABLE, || {
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()), // writable, or broken, which the write reports
        }
    });
    polled.is_ok()
}

/// `TCP_CLOSE` of `include/net/tcp_states.h`: an error or a reset has ended the connection.
const CLOSED: u8 = 7;

/// The bytes that the peer of this socket has acknowledged. None: it is not a TCP socket, or the system does not
/// count them (Linux does since 4.1).
pub(super) fn acks(socket: &impl AsRawFd) -> Option<Acks> {
    let (info, len) = info(socket).ok()?;
    let counted = offset_of!(libc::tcp_info, tcpi_bytes_acked) + size_of::<u64>();
    (len >= counted).then_some(())?;
    Some(Acks {
        acknowledged: info.tcpi_bytes_acked,
        outstanding: outstanding(socket).ok()?,
        is_over: info.tcpi_state == CLOSED,
    })
}

/// The system's record of a connection, and the number of its bytes that this system fills; the others are 0.
fn info(socket: &impl AsRawFd) -> io::Result<(libc::tcp_info, usize)> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of what `info` points to; all of its fields
    // are integers, for which zeros are a value.
    let (result, info) = unsafe {
        let result = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        );
        (result, info.assume_init())
    };
    match result {
        0 => Ok((info, len as usize)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes that were written and are not acknowledged (`SIOCOUTQ`, tcp(7)).
fn outstanding(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match result {
        0 => Ok(bytes.max(0) as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    pub(in crate::http) fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound"));
        let (served, _) = listener.accept().expect("it has come");
        (served, client.expect("a listener"))
    }

    fn eventually(socket: &TcpStream, what: &str, is_so: impl Fn(Acks) -> bool) -> Acks {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let acks = acks(socket).expect("it is TCP");
            if is_so(acks) {
                return acks;
            }
            assert!(Instant::now() < deadline, "{what}: {acks:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn bytes_that_a_peer_reads_are_acknowledged_and_others_are_outstanding() {
        let (mut served, mut client) = pair();
        let before = acks(&served).expect("it is TCP").acknowledged;
        served.write_all(&[0; 100]).expect("buffer space");
        let acked = eventually(&served, "all of it", |acks| acks.outstanding == 0);
        assert_eq!(acked.acknowledged, before + 100);

        served.set_nonblocking(true).expect("it is open");
        let mut written = 0;
        while let Ok(count) = served.write(&[0; 10_000]) {
            written += count as u64;
        }
        let full = eventually(&served, "something waits", |acks| acks.outstanding > 0);
        client
            .read_exact(&mut vec![0; 1_000_000])
            .expect("it is there");
        let taken = |acks: Acks| acks.acknowledged > full.acknowledged;
        let later = eventually(&served, "growth", taken);
        assert!(later.acknowledged + later.outstanding >= before + written);
        assert!(!later.is_over);
    }

    #[test]
    fn a_reset_connection_is_over_before_any_read() {
        let (served, client) = pair();
        let socket = socket2::SockRef::from(&client);
        socket.set_linger(Some(Duration::ZERO)).expect("it is open");
        drop(client);
        eventually(&served, "the reset", |acks| acks.is_over);
    }

    #[test]
    fn a_unix_socket_has_no_acknowledgements() {
        let (one, _other) = UnixStream::pair().expect("two sockets");
        assert_eq!(acks(&one), None);
    }
}
