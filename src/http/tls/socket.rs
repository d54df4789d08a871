//! The TLS connection of a session: one state with a reading and a writing half.
//!
//! Neither half ever waits for the other. Bytes are encrypted one block at a time, and the next block only when the
//! kernel has accepted the previous one. So a client that does not read costs one block in addition to its outbox,
//! wherever in a TLS record it stopped.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::actors::socket_writer::{Acks, SocketWriter};
use crate::http::tcp;
use crate::http::transport::{Transport, end_writing};

/// Bytes that are encrypted before the kernel must accept them: two TLS records. A larger block would cost more
/// memory per client that does not read; a smaller one would cost more system calls per client that does.
const BLOCK_BYTES: usize = 32 * 1024;

/// Slices that are encrypted together.
const SLICES: usize = 64;

struct Shared {
    socket: TcpStream,
    state: RefCell<State>,
}

struct State {
    tls: ServerConnection,
    /// The last encrypted byte was not reported as written. See [`TlsWriter`].
    held_back: bool,
    /// The close alert is queued; the writing side ends after it.
    finishing: bool,
}

/// The half that a session reads from.
pub struct TlsReader(Rc<Shared>);

/// The half that a session writes to.
///
/// The caller must know of bytes that the kernel has not accepted. Otherwise it would not return to flush them, and
/// they would escape all limits. So while there are such bytes, the last of them is reported as not written. Its
/// frame stays in the outbox, which knows that the frame has begun ([`SocketWriter::holds_back`]), and therefore
/// never drops it. When the byte is passed again, it is not encrypted a second time.
pub struct TlsWriter(Rc<Shared>);

impl std::fmt::Debug for TlsReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsReader").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TlsWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsWriter").finish_non_exhaustive()
    }
}

impl Transport for TlsStream<TcpStream> {
    type Reader = TlsReader;
    type Writer = TlsWriter;

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn split(self) -> (TlsReader, TlsWriter) {
        let (socket, tls) = self.into_inner();
        let state = RefCell::new(State {
            tls,
            held_back: false,
            finishing: false,
        });
        let shared = Rc::new(Shared { socket, state });
        (TlsReader(Rc::clone(&shared)), TlsWriter(shared))
    }
}

impl Drop for Shared {
    /// Sends the close alert of a session that ended without one, if the socket accepts it.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.tls.send_close_notify();
        // A connection that is closed already needs no alert.
        let _ = state.flush(&self.socket);
    }
}

impl State {
    /// Passes the encrypted bytes to the kernel. False if it does not accept all of them.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Raw(socket)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Encrypts and sends the slices, as far as the kernel accepts them.
    fn write(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush(socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        // The kernel has that byte now, and the slices begin with it.
        let mut taken = usize::from(std::mem::take(&mut self.held_back));
        loop {
            let block = part(slices, taken);
            if block.is_empty() {
                return Ok(taken);
            }
            match self.tls.writer().write_vectored(&block)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => taken += count,
            }
            if !self.flush(socket)? {
                self.held_back = true;
                taken -= 1;
                return match taken {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    _ => Ok(taken),
                };
            }
        }
    }

    /// Ends the writing side once the kernel has the close alert. True when nothing is left to do.
    fn finish(&mut self, socket: &TcpStream) -> bool {
        if self.finishing && self.flush(socket).unwrap_or(true) {
            self.finishing = false;
            end_writing(socket);
        }
        !self.finishing
    }
}

/// The slices after the first `skip` bytes, up to one block.
fn part<'s>(slices: &'s [IoSlice<'_>], mut skip: usize) -> SmallVec<[IoSlice<'s>; SLICES]> {
    let mut part = SmallVec::new();
    let mut capacity = BLOCK_BYTES;
    for slice in slices {
        if skip >= slice.len() {
            skip -= slice.len();
            continue;
        }
        let bytes = &slice[std::mem::take(&mut skip)..];
        let bytes = &bytes[..bytes.len().min(capacity)];
        part.push(IoSlice::new(bytes));
        capacity -= bytes.len();
        if capacity == 0 || part.len() == SLICES {
            break;
        }
    }
    part
}

impl SocketWriter for TlsWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Shared { socket, state } = &*self.0;
        state.borrow_mut().write(socket, slices)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.poll_write_ready(context)
    }

    /// The reading half sends the rest that the kernel does not accept at once.
    fn finish(&self) {
        let Shared { socket, state } = &*self.0;
        let state = &mut *state.borrow_mut();
        state.tls.send_close_notify();
        state.finishing = true;
        state.finish(socket);
    }

    fn acks(&self) -> Option<Acks> {
        tcp::acks(&self.0.socket)
    }

    fn is_drained(&self) -> bool {
        tcp::is_drained(&self.0.socket)
    }

    fn holds_back(&self) -> bool {
        self.0.state.borrow().held_back
    }
}

impl AsyncRead for TlsReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Shared { socket, state } = &*self.0;
        let state = &mut *state.borrow_mut();
        loop {
            match state.tls.reader().read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The connection ended without a close alert of TLS. WebSockets have a close frame of their own,
                // which shows whether data is missing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            match state.tls.read_tls(&mut Raw(socket)) {
                Ok(_) => {
                    let processed = state.tls.process_new_packets();
                    // Responses of TLS itself, such as new keys and alerts. A rest of them is sent before the next
                    // write. The next read reports a broken socket.
                    let _ = state.flush(socket);
                    if let Err(error) = processed {
                        return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    while !state.finish(socket) {
                        match socket.poll_write_ready(context) {
                            Poll::Ready(ready) => ready?,
                            Poll::Pending => break,
                        }
                    }
                    ready!(socket.poll_read_ready(context))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// The socket for rustls, which returns `WouldBlock` where a call would wait.
struct Raw<'s>(&'s TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::generate_simple_self_signed;
    use rustls::crypto::ring;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;

    /// The halves of a session with a small send buffer, and its client.
    async fn pair() -> (TlsReader, TlsWriter, client::TlsStream<TcpStream>) {
        let made = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has all")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("they fit");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has all")
            .with_root_certificates(roots)
            .with_no_client_auth();

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let small = SockRef::from(&listener).set_send_buffer_size(16 * 1024);
        small.expect("a small buffer");
        let address = listener.local_addr().expect("it is bound");
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            TlsAcceptor::from(Arc::new(server)).accept(stream).await
        };
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = TlsConnector::from(Arc::new(client));
            connector.connect(name, stream).await
        };
        let (accepted, connected) = tokio::join!(accepted, connected);
        let (reader, writer) = accepted.expect("a handshake").split();
        (reader, writer, connected.expect("a handshake"))
    }

    /// Bytes without a short period.
    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_that_the_kernel_has_not_accepted_are_never_reported_as_written() {
        let (_reader, writer, mut client) = pair().await;
        let text = text(3_000_000);
        let sends = async {
            let (mut sent, mut waits, mut sizes) = (0, 0, [1, 2, 7, 20_000, 70_000].iter().cycle());
            while sent < text.len() {
                let size = *sizes.next().expect("it goes round");
                // In slices, as from an outbox, where the first one may be partly sent.
                let rest = &text[sent..text.len().min(sent + size)];
                let (first, second) = rest.split_at(rest.len() / 3);
                let slices = [IoSlice::new(first), IoSlice::new(second)];
                let taken = writer.try_write_vectored(&slices);
                let owes = writer.0.state.borrow().tls.wants_write();
                match taken {
                    Ok(count) => {
                        assert!(
                            !owes || count < rest.len(),
                            "no caller would come back for it"
                        );
                        sent += count;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        assert!(owes, "it waits for something");
                        waits += 1;
                        let ready = std::future::poll_fn(|task| writer.poll_writable(task));
                        ready.await.expect("it is open");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            writer.finish();
            waits
        };
        let reads = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.map(|_| received)
        };
        let (waits, received) = tokio::join!(sends, reads);
        assert!(waits > 0, "there was always room: this has tested nothing");
        // To the end, which TLS reports by an alert.
        assert!(received.expect("the whole text") == text);
    }

    #[tokio::test]
    async fn a_client_that_never_reads_costs_one_block() {
        let (_reader, writer, client) = pair().await;
        let text = text(8_000_000);
        let mut taken = 0;
        while let Ok(count) = writer.try_write(&text[taken..]) {
            taken += count;
        }
        assert!(taken < text.len(), "the kernel has taken all");
        let state = &mut *writer.0.state.borrow_mut();
        assert!(state.held_back);
        let mut encrypted = Vec::new();
        while state.tls.wants_write() {
            state.tls.write_tls(&mut encrypted).expect("memory");
        }
        // With the overhead of TLS records.
        assert!(encrypted.len() <= BLOCK_BYTES + 256, "{}", encrypted.len());
        drop(client);
    }
}
