//! A client's connection: a socket, or TLS on it. Which of the two, the worker's address decides, so
//! that a test reads the same for both.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::ClientConnection;

use super::certificates;

/// Workers that speak TLS.
static SECURE: Mutex<Option<HashSet<SocketAddr>>> = Mutex::new(None);

/// From now on streams to this address use TLS.
pub fn speak_tls_to(address: SocketAddr) {
    let mut secure = SECURE.lock().expect("nobody panics in there");
    secure.get_or_insert_default().insert(address);
}

/// The worker at this address is gone; another one may get its port.
pub fn speak_plainly_to(address: SocketAddr) {
    let mut secure = SECURE.lock().expect("nobody panics in there");
    secure.get_or_insert_default().remove(&address);
}

/// See the module's documentation.
pub struct Stream {
    socket: TcpStream,
    tls: Option<Arc<Tls>>,
    /// What came and was not decrypted yet.
    raw: Vec<u8>,
}

struct Tls {
    connection: Mutex<ClientConnection>,
    /// Held while records go out, which must not change their order.
    writes: Mutex<()>,
}

/// Bytes that are encrypted at a time.
const CHUNK: usize = 16 * 1024;

impl Stream {
    pub fn new(socket: TcpStream, protocol: &[u8]) -> Self {
        let peer = socket.peer_addr().expect("it is connected");
        let secure = SECURE.lock().expect("nobody panics in there");
        let is_secure = secure.as_ref().is_some_and(|secure| secure.contains(&peer));
        let tls = is_secure.then(|| {
            Arc::new(Tls {
                connection: Mutex::new(certificates::client(protocol)),
                writes: Mutex::new(()),
            })
        });
        let raw = Vec::new();
        Self { socket, tls, raw }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// A second hand on the same connection. Only one of them may read.
    pub fn another(&self) -> Self {
        Self {
            socket: self.socket.try_clone().expect("a descriptor"),
            tls: self.tls.clone(),
            raw: Vec::new(),
        }
    }

    /// The writing side ends; reading goes on. An error: the server has ended the connection before.
    pub fn end_writing(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            tls.connection().send_close_notify();
            tls.send(&self.socket)?;
        }
        self.socket.shutdown(Shutdown::Write)
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            return self.socket.write_all(bytes);
        };
        tls.shake_hands(&self.socket)?;
        for chunk in bytes.chunks(CHUNK) {
            tls.connection().writer().write_all(chunk)?;
            tls.send(&self.socket)?;
        }
        Ok(())
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.socket.read(buffer);
        };
        loop {
            match tls.connection().reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let mut ended = false;
            if self.raw.is_empty() {
                let mut chunk = [0; CHUNK];
                let count = self.socket.read(&mut chunk)?;
                self.raw.extend_from_slice(&chunk[..count]);
                ended = count == 0;
            }
            let mut raw = &self.raw[..];
            let mut connection = tls.connection();
            while !raw.is_empty() || std::mem::take(&mut ended) {
                connection.read_tls(&mut raw)?;
                let state = connection.process_new_packets();
                let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                if state.plaintext_bytes_to_read() > 0 {
                    break;
                }
            }
            self.raw = raw.to_vec();
            drop(connection);
            tls.send(&self.socket)?;
        }
    }
}

impl Tls {
    fn connection(&self) -> std::sync::MutexGuard<'_, ClientConnection> {
        self.connection.lock().expect("nobody panics in there")
    }

    /// What is written before would wait for somebody who reads.
    fn shake_hands(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut connection = self.connection();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(())
    }

    /// Sends what is encrypted. The other hand may read meanwhile.
    fn send(&self, mut socket: &TcpStream) -> io::Result<()> {
        let _writes = self.writes.lock().expect("nobody panics in there");
        let mut records = Vec::new();
        let mut connection = self.connection();
        while connection.wants_write() {
            connection.write_tls(&mut records)?;
        }
        drop(connection);
        socket.write_all(&records)
    }
}
