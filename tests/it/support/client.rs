//! A client that speaks HTTP and WebSocket byte by byte over a plain socket, so that it can also do
//! what no decent client does. Every wait has a deadline.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::DEADLINE;
use super::deflate;
use super::stream::Stream;

/// The opcodes of RFC 6455, section 5.2.
pub mod opcode {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

pub struct Client {
    stream: Stream,
    /// What came and was not looked at yet.
    input: Vec<u8>,
    /// How much of `input` was looked at.
    taken: usize,
    /// permessage-deflate was agreed on.
    inflates: bool,
    /// Messages that came deflated.
    pub deflated: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The head as it came.
    pub head: String,
    pub body: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The peer has sent everything, and said so.
    Finished,
    /// The peer threw the connection away.
    Reset,
    /// TLS has ended without its farewell.
    Torn,
}

impl Client {
    /// A TCP connection.
    pub fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).expect("somebody listens"))
    }

    /// A TCP connection that takes only little before its reader does: a slow network.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        // Not below two segments of the loopback device, or TCP waits for its timers all the time.
        Self::connect_with_buffer(address, 128 * 1024)
    }

    /// A TCP connection whose system takes so much before its reader does.
    pub fn connect_with_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let buffer = socket.set_recv_buffer_size(bytes);
        buffer.expect("a small buffer");
        socket.connect(&address.into()).expect("somebody listens");
        Self::on(socket.into())
    }

    /// A connection to a worker, with TLS if that is what it speaks.
    fn on(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        socket.set_write_timeout(Some(DEADLINE)).expect("not zero");
        Self::in_protocol(socket, b"http/1.1")
    }

    /// A connection to a worker with TLS, to speak HTTP/2.
    pub fn connect_http2(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("somebody listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Self::in_protocol(socket, b"h2")
    }

    fn in_protocol(socket: TcpStream, protocol: &[u8]) -> Self {
        Self::from_stream(Stream::new(socket, protocol))
    }

    fn from_stream(stream: Stream) -> Self {
        let (input, taken) = (Vec::new(), 0);
        Self {
            stream,
            input,
            taken,
            inflates: false,
            deflated: 0,
        }
    }

    /// An open WebSocket.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str) -> Self {
        Self::connect(address).opened(path)
    }

    /// This connection as an open WebSocket.
    #[track_caller]
    pub fn opened(mut self, path: &str) -> Self {
        self.send_bytes(handshake(path).as_bytes());
        let answer = self.head();
        assert_eq!(answer.status, 101, "{}", answer.head);
        self
    }

    /// An open WebSocket with permessage-deflate.
    #[track_caller]
    pub fn open_deflating(address: SocketAddr, path: &str) -> Self {
        Self::connect(address).opened_deflating(path)
    }

    /// This connection as an open WebSocket with permessage-deflate.
    #[track_caller]
    pub fn opened_deflating(mut self, path: &str) -> Self {
        self.send_bytes(deflate::handshake(path).as_bytes());
        let answer = self.head();
        assert_eq!(answer.status, 101, "{}", answer.head);
        let agreed = answer.header("sec-websocket-extensions");
        assert_eq!(agreed, Some(deflate::AGREED));
        self.inflates = true;
        self
    }

    /// The answer to the handshake of a WebSocket that is refused.
    pub fn refused(address: SocketAddr, path: &str) -> Answer {
        let mut client = Self::connect(address);
        client.send_bytes(handshake(path).as_bytes());
        client.answer()
    }

    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
    }

    /// Sends as long as somebody takes it.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// A second hand on the same connection, to send while the first one reads. Only the first one
    /// can read: it may hold messages that came with the answer to the handshake.
    pub fn sender(&self) -> Self {
        Self::from_stream(self.stream.another())
    }

    #[track_caller]
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_bytes(&frame(true, opcode, payload));
    }

    #[track_caller]
    pub fn send_deflated(&mut self, opcode: u8, payload: &[u8]) {
        self.send_bytes(&deflate::frame(opcode, payload));
    }

    #[track_caller]
    pub fn text(&mut self, text: &str) {
        self.send(opcode::TEXT, text.as_bytes());
    }

    #[track_caller]
    pub fn close(&mut self, code: u16) {
        self.send(opcode::CLOSE, &code.to_be_bytes());
    }

    /// Says goodbye, if anybody is left to hear it.
    pub fn close_quietly(&mut self) {
        self.try_send(&frame(true, opcode::CLOSE, &1000_u16.to_be_bytes()));
    }

    /// The writing side ends; reading goes on.
    pub fn half_close(&self) {
        self.try_half_close().expect("it is connected");
    }

    /// The same, unless the server has ended the connection before.
    pub fn try_half_close(&self) -> io::Result<()> {
        self.stream.end_writing()
    }

    /// Throws the connection away: the server sees a reset.
    pub fn reset(self) {
        let abrupt = Some(Duration::ZERO);
        SockRef::from(self.stream.socket())
            .set_linger(abrupt)
            .expect("a TCP socket");
    }

    /// The next `len` bytes, wherever frames begin and end.
    #[track_caller]
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.take(len).expect("so many bytes")
    }

    /// The same, if the connection does not end before.
    pub fn try_bytes(&mut self, len: usize) -> Result<Vec<u8>, End> {
        self.take(len)
    }

    /// Puts back what `bytes` gave.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.input.drain(..std::mem::take(&mut self.taken));
        self.input.splice(..0, bytes);
    }

    /// The next frame. `Err` when the connection ends before it.
    pub fn next(&mut self) -> Result<Frame, End> {
        let head = self.take(2)?;
        assert_eq!(head[0] & 0xB0, 0x80, "whole messages, no reserved bits");
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let len = match head[1] {
            126 => u16::from_be_bytes(self.take(2)?.try_into().expect("two bytes")) as u64,
            127 => u64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")),
            short => short as u64,
        };
        let mut payload = self.take(len as usize)?;
        let opcode = head[0] & 0x0F;
        if head[0] & deflate::RSV1 != 0 {
            assert!(self.inflates, "nobody agreed on deflated messages");
            assert!(matches!(opcode, opcode::TEXT | opcode::BINARY));
            payload = deflate::inflate(&payload);
            self.deflated += 1;
        }
        Ok(Frame { opcode, payload })
    }

    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.next().expect("a frame, not the end")
    }

    /// The next message as text.
    #[track_caller]
    pub fn message(&mut self) -> String {
        let frame = self.frame();
        assert!(
            matches!(frame.opcode, opcode::TEXT | opcode::BINARY),
            "a message, not {:?} {:?}",
            frame.opcode,
            String::from_utf8_lossy(&frame.payload)
        );
        String::from_utf8(frame.payload).expect("text")
    }

    /// Everything up to the close frame, and its code.
    #[track_caller]
    pub fn closed(&mut self) -> (Vec<Frame>, u16) {
        let mut before = Vec::new();
        loop {
            let frame = self.frame();
            if frame.opcode == opcode::CLOSE {
                let code = frame.payload.first_chunk().copied();
                return (before, code.map_or(1005, u16::from_be_bytes));
            }
            before.push(frame);
        }
    }

    /// The next frame is a close frame with this code.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        let (before, closed) = self.closed();
        assert_eq!(
            (before.len(), closed),
            (0, code),
            "first: {:?}",
            before.first()
        );
    }

    /// How the connection ends; whatever comes before it is ignored.
    #[track_caller]
    pub fn end(&mut self) -> End {
        self.taken = self.input.len();
        loop {
            if let Err(end) = self.fill() {
                return end;
            }
            self.taken = self.input.len();
        }
    }

    /// Everything that comes until the connection ends, however it ends.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        std::mem::take(&mut self.input)
    }

    /// One whole HTTP response.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let len = answer.header("content-length").map_or(0, |value| {
            value.parse().expect("Content-Length is a number")
        });
        answer.body = self.take(len).expect("the whole body");
        answer
    }

    /// The head of an HTTP response.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        let len = loop {
            let seen = &self.input[self.taken..];
            if let Some(at) = seen.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().expect("the head of a response");
        };
        let head = String::from_utf8(self.take(len).expect("it is there")).expect("ASCII");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.expect("a status line"),
            head,
            body: Vec::new(),
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, End> {
        while self.input.len() - self.taken < len {
            self.fill()?;
        }
        let taken = self.input[self.taken..][..len].to_vec();
        self.taken += len;
        Ok(taken)
    }

    fn fill(&mut self) -> Result<(), End> {
        self.input.drain(..std::mem::take(&mut self.taken));
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(End::Finished),
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            // Over TLS: the end without its farewell, which might be anybody's.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(End::Torn),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => panic!("nothing came in time: {error}"),
        }
    }
}

/// What came, as text, without the lines that differ from time to time.
pub fn without_dates(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

impl Answer {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The request for a WebSocket.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A frame as clients send it: masked.
pub fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(is_final, opcode, payload.len() as u64);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Only its header: the payload may never come.
pub fn header(is_final: bool, opcode: u8, len: u64) -> Vec<u8> {
    let mut header = vec![u8::from(is_final) << 7 | opcode];
    match len {
        0..=125 => header.push(0x80 | len as u8),
        126..=0xFFFF => {
            header.push(0x80 + 126);
            header.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 + 127);
            header.extend_from_slice(&len.to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    header
}

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
