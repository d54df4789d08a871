//! The driver of one connection: it reads a request, has it answered, writes the response, and only then
//! looks at the next request.
//!
//! An idle connection holds no buffer. While a request runs, a little is read ahead, so that a client that
//! has gone is noticed; its body is read when it is asked for. Responses to requests that came together leave
//! together.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::body::{self, Feed, ReadOutcome};
use super::encode::{self, Delimiter};
use super::output::Output;
use super::parse::{Framing, HeadError, RequestStart, parse};
use crate::http::content::Content;
use crate::http::deadlines::Deadline;
use crate::http::farewell::LINGER;
use crate::http::file::FileBody;
use crate::http::head::Version;
use crate::http::incoming::Payload;
use crate::http::limits::{BODY_AHEAD_BYTES, MAX_LINGER_BYTES, READ_AHEAD_BYTES};
use crate::http::proxies::Origin;
use crate::http::request::WireRequest;
use crate::http::response::{Response, WireResponse};
use crate::http::router::Outcome;
use crate::http::service::{Worker, answer};
use crate::http::tcp;
use crate::http::transport::Transport;
use crate::http::websocket::upgrade::{self, upgrade};

/// Room for the head of an ordinary response, and a small body.
const HEAD_ROOM: usize = 512;

/// Serves a connection to its end, or until it becomes a WebSocket.
pub(in crate::http) async fn serve<T: Transport>(
    worker: Rc<Worker>,
    stream: T,
    peer: Option<SocketAddr>,
) {
    let deadline = poll_fn(|task| Poll::Ready(worker.deadlines.add(task.waker().clone()))).await;
    let mut connection = Connection {
        origin: Origin {
            peer,
            secure: worker.secure,
        },
        worker,
        stream,
        input: BytesMut::new(),
        output: Output::default(),
        deadline,
        has_asked: false,
        is_half_closed: false,
        is_blocked: false,
        acknowledged: 0,
    };
    loop {
        connection.begin_to_wait();
        match poll_fn(|task| connection.poll_head(task)).await {
            Next::Request(start) if connection.becomes_websocket(&start) => {
                if start.framing == Framing::Empty {
                    return connection.upgrade(start);
                }
                let reason = "The handshake of a WebSocket has no body.".into();
                let status = StatusCode::BAD_REQUEST;
                return Box::pin(connection.refuse(HeadError { status, reason })).await;
            }
            // Boxed, so that an idle connection has no room for it.
            Next::Request(start) => match Box::pin(connection.exchange(start)).await {
                After::Keep => {}
                After::Close { lingers } => return Box::pin(connection.close(lingers)).await,
                After::Abort => return,
            },
            Next::Refused(error) => return Box::pin(connection.refuse(error)).await,
            Next::Closed => return Box::pin(connection.close(false)).await,
            Next::Gone => return,
        }
    }
}

/// What a connection that waits for a request comes to.
enum Next {
    Request(RequestStart),
    /// What came is not a request, or did not come in time.
    Refused(HeadError),
    /// Nothing has come for too long, or nothing more comes.
    Closed,
    /// The client has gone.
    Gone,
}

/// What becomes of a connection after a response.
enum After {
    /// The next request is read.
    Keep,
    /// It is closed. `lingers`: the client may be sending still.
    Close { lingers: bool },
    /// It is cut off: the response is not whole, or the client has gone.
    Abort,
}

/// What becomes of a body that has not been read to its end when the response is there.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Rest {
    /// There is nothing left of it.
    Nothing,
    /// It is read and thrown away, for it is small.
    Skip,
    /// The connection ends: to read it would take longer than to connect again.
    Close,
}

/// The client has gone, or takes nothing any more.
struct Gone;

/// What a response depends on.
struct Request<'r> {
    method: &'r Method,
    version: Version,
    /// The connection ends with the response.
    closes: bool,
    /// The rest of the body, if the handler still reads it.
    feed: Option<&'r Feed>,
}

/// A body on its way.
struct Pieces<'f> {
    body: BoxBody,
    /// The body of the request, which is still read.
    feed: Option<&'f Feed>,
    in_chunks: bool,
    /// How often the client is probed when it has shut down its sending side.
    probes: u8,
}

/// A client that has shut down its sending side may still read, or have gone altogether. So while the next chunk
/// is not there yet, a zero is sent, which its size will begin with. A client that has gone answers the first one
/// with a reset, so that the second one fails.
const PROBES: u8 = 2;

/// The time between two probes: much longer than a packet and its answer take.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

struct Connection<T> {
    worker: Rc<Worker>,
    stream: T,
    /// The other end, which may be a proxy.
    origin: Origin,
    /// Read, and not used yet. Empty while the connection is idle.
    input: BytesMut,
    output: Output,
    deadline: Deadline,
    /// It has brought a request.
    has_asked: bool,
    /// The client has shut down its sending side. It may still want its answers.
    is_half_closed: bool,
    /// The kernel does not take what waits in `output`; the deadline is that of writing.
    is_blocked: bool,
    /// Bytes that the client had acknowledged when the time-out for writing was over.
    acknowledged: u64,
}

impl<T: Transport> Connection<T> {
    /// Sets the deadline for the next head.
    fn begin_to_wait(&mut self) {
        let config = &self.worker.config;
        self.deadline
            .set(if self.input.is_empty() && self.has_asked {
                config.keep_alive
            } else {
                config.head_timeout
            });
    }

    /// Reads until there is a whole head. Writes what waits meanwhile.
    fn poll_head(&mut self, task: &mut Context<'_>) -> Poll<Next> {
        // A head that is not whole is only looked at again when another of its lines has come.
        let mut is_new = !self.input.is_empty();
        loop {
            if is_new {
                match parse(&self.input, self.origin) {
                    Ok(Some(start)) => {
                        let _ = self.input.split_to(start.len);
                        if self.input.is_empty() {
                            self.input = BytesMut::new();
                        }
                        return Poll::Ready(Next::Request(start));
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Next::Refused(error)),
                }
            }
            let was_blocked = self.is_blocked;
            match self.poll_output(task) {
                Poll::Ready(Err(Gone)) => return Poll::Ready(Next::Gone),
                Poll::Ready(Ok(())) if was_blocked => self.begin_to_wait(),
                _ => {}
            }
            if self.is_half_closed {
                if self.output.is_empty() {
                    return Poll::Ready(Next::Closed);
                }
                return Poll::Pending;
            }
            let was_empty = self.input.is_empty();
            let read = {
                let scratch = &mut *self.worker.scratch.borrow_mut();
                match body::poll_read(&mut self.stream, scratch, task) {
                    Poll::Ready(Ok(0)) => {
                        self.is_half_closed = true;
                        is_new = false;
                        continue;
                    }
                    Poll::Ready(Ok(count)) => {
                        let read = &scratch[..count];
                        is_new = was_empty || read.contains(&b'\n') || self.input.len() > 1 << 14;
                        self.input.extend_from_slice(read);
                        Poll::Ready(())
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Gone),
                    Poll::Pending => Poll::Pending,
                }
            };
            if read.is_pending() {
                break;
            }
            if was_empty && !self.is_blocked {
                self.begin_to_wait();
            }
        }
        if self.deadline.is_over() && !self.is_blocked {
            if self.input.is_empty() {
                return Poll::Ready(Next::Closed);
            }
            let reason = "The request's head did not come in time.".into();
            let status = StatusCode::REQUEST_TIMEOUT;
            return Poll::Ready(Next::Refused(HeadError { status, reason }));
        }
        if self.input.is_empty() && self.worker.linger.may_close(self.has_asked) {
            return Poll::Ready(Next::Closed);
        }
        Poll::Pending
    }

    /// Writes what waits. An error: the client has gone, or has taken nothing for too long.
    fn poll_output(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut has_taken = false;
        let flushed = self
            .output
            .poll_flush(&mut self.stream, task, || has_taken = true);
        self.judge(&flushed, has_taken)
    }

    /// What comes of an attempt to write. `has_taken`: the kernel took some of it.
    fn judge(&mut self, written: &Poll<io::Result<()>>, has_taken: bool) -> Poll<Result<(), Gone>> {
        match written {
            Poll::Ready(Ok(())) => {
                if std::mem::take(&mut self.is_blocked) {
                    self.deadline.clear();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Gone)),
            Poll::Pending if has_taken || !self.is_blocked => {
                self.is_blocked = true;
                self.deadline.set(self.worker.config.write_timeout);
                Poll::Pending
            }
            Poll::Pending if self.deadline.is_over() && !self.takes_what_was_written() => {
                Poll::Ready(Err(Gone))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The kernel takes nothing until a third of its buffer is free. Over a narrow link that may last longer
    /// than the time-out, of a client that reads without pause: then it has more time. One that has stopped
    /// is ended by the kernel, whose time-out for it is as long.
    fn takes_what_was_written(&mut self) -> bool {
        let acknowledged = tcp::acks(self.stream.socket()).map_or(0, |acks| acks.acknowledged);
        let takes = acknowledged > self.acknowledged;
        self.acknowledged = acknowledged;
        if takes {
            self.deadline.set(self.worker.config.write_timeout);
        }
        takes
    }

    /// Whether a request opens a WebSocket, or is refused as one that tries to. A server may answer it as if
    /// the client had not asked for another protocol (RFC 9110, section 7.8), where it has such an answer.
    fn becomes_websocket(&self, start: &RequestStart) -> bool {
        if !start.wants_websocket {
            return false;
        }
        let router = &self.worker.routes.router;
        let path = start.head.path();
        router.websocket(path).is_some()
            || !matches!(router.http(&start.method, path), Outcome::Found(_))
    }

    /// Hands the socket over to the hub.
    fn upgrade(mut self, start: RequestStart) {
        let RequestStart {
            method, mut head, ..
        } = start;
        self.worker.config.place(&mut head);
        let connection = upgrade::Connection {
            early: self.input.to_vec(),
            unsent: self.output.take(),
            stream: self.stream,
        };
        upgrade(&self.worker, &method, head, connection);
    }

    /// Has one request answered, and writes the response.
    async fn exchange(&mut self, start: RequestStart) -> After {
        let RequestStart {
            method,
            mut head,
            framing,
            keep_alive,
            mut expects_continue,
            ..
        } = start;
        self.has_asked = true;
        if !self.is_blocked {
            self.deadline.clear();
        }
        self.worker.config.place(&mut head);
        let version = head.version;
        let (feed, payload) = match body::pair(framing) {
            Some((feed, stream)) => (Some(feed), Payload::Http1(stream)),
            None => (None, Payload::Empty),
        };
        let response = {
            let request = WireRequest {
                method: method.clone(),
                head: Arc::new(head),
                payload,
            };
            let worker = Rc::clone(&self.worker);
            let bodies = Rc::clone(&worker.bodies);
            let mut answer = pin!(answer(worker, request, bodies));
            let feed = feed.as_ref();
            let expects = &mut expects_continue;
            poll_fn(|task| self.poll_answer(answer.as_mut(), feed, expects, task)).await
        };
        let Ok(response) = response else {
            return After::Abort;
        };
        // A client that still waits for 100 may send the body or not: what follows cannot be told apart.
        // A client whose body did not come in time would not be in time with the rest of it.
        let may_skip = !expects_continue && response.status != StatusCode::REQUEST_TIMEOUT;
        let rest = self.rest_of(feed.as_ref(), may_skip);
        let closes = !keep_alive
            || rest == Rest::Close
            || self.worker.shutdown.is_triggered()
            || encode::asks_to_close(&response);
        let request = Request {
            method: &method,
            version,
            closes,
            feed: feed.as_ref().filter(|feed| feed.is_held()),
        };
        let after = self.respond(request, response).await;
        match (after, rest, feed) {
            (After::Keep, Rest::Skip, Some(feed)) => self.skip(&feed).await,
            (After::Close { .. }, rest, _) => After::Close {
                lingers: rest != Rest::Nothing || !self.input.is_empty(),
            },
            (after, ..) => after,
        }
    }

    /// Drives what the answer waits for: its request's body, if it wants that.
    fn poll_answer(
        &mut self,
        mut answer: Pin<&mut impl Future<Output = WireResponse>>,
        feed: Option<&Feed>,
        expects_continue: &mut bool,
        task: &mut Context<'_>,
    ) -> Poll<Result<WireResponse, Gone>> {
        loop {
            if let Poll::Ready(response) = answer.as_mut().poll(task) {
                return Poll::Ready(Ok(response));
            }
            let has_more = match feed {
                Some(feed) if feed.wants_more() => {
                    // A client that has begun to send does not wait (RFC 9110, section 10.1.1).
                    if std::mem::take(expects_continue) && self.input.is_empty() {
                        encode::write_continue(self.output.tail());
                    }
                    self.poll_body(feed, task)?
                }
                Some(feed) if !feed.is_over() => false,
                _ => {
                    self.poll_ahead(task)?;
                    false
                }
            };
            if !has_more {
                break;
            }
        }
        match self.poll_output(task) {
            Poll::Ready(Err(gone)) => Poll::Ready(Err(gone)),
            _ => Poll::Pending,
        }
    }

    /// Gets more of a body. False: nothing for now.
    fn poll_body(&mut self, feed: &Feed, task: &mut Context<'_>) -> Result<bool, Gone> {
        if !self.input.is_empty() {
            let used = feed.use_input(&mut self.input);
            if used || !self.input.is_empty() {
                return Ok(used);
            }
        }
        if self.is_half_closed {
            feed.fail();
            return Ok(true);
        }
        let scratch = &mut *self.worker.scratch.borrow_mut();
        match feed.poll_read(&mut self.stream, scratch, &mut self.input, task) {
            Poll::Ready(Ok(ReadOutcome::Progress)) => Ok(true),
            Poll::Ready(Ok(ReadOutcome::Closed)) => {
                self.is_half_closed = true;
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Pending => Ok(false),
        }
    }

    /// Reads a little of what follows the request, so that the client's end is noticed.
    fn poll_ahead(&mut self, task: &mut Context<'_>) -> Result<(), Gone> {
        while !self.is_half_closed && self.input.len() < READ_AHEAD_BYTES {
            let scratch = &mut *self.worker.scratch.borrow_mut();
            let room = READ_AHEAD_BYTES - self.input.len();
            match body::poll_read(&mut self.stream, &mut scratch[..room], task) {
                Poll::Ready(Ok(0)) => self.is_half_closed = true,
                Poll::Ready(Ok(count)) => self.input.extend_from_slice(&scratch[..count]),
                Poll::Ready(Err(_)) => return Err(Gone),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// What to do with the part of a body that nobody has read.
    fn rest_of(&mut self, feed: Option<&Feed>, may_skip: bool) -> Rest {
        let Some(feed) = feed else {
            return Rest::Nothing;
        };
        // The handler reads on while its response is sent: whether it reads to the end is not known yet.
        if feed.is_held() && !feed.is_over() {
            return Rest::Close;
        }
        let skipped = feed.skip(&self.input);
        let _ = self.input.split_to(skipped);
        if feed.is_broken() {
            return Rest::Close;
        }
        if feed.is_over() {
            return Rest::Nothing;
        }
        let is_small = feed
            .left()
            .is_some_and(|left| left <= BODY_AHEAD_BYTES as u64);
        if is_small && may_skip && !self.is_half_closed {
            Rest::Skip
        } else {
            Rest::Close
        }
    }

    /// Reads the rest of a body that nobody wants.
    async fn skip(&mut self, feed: &Feed) -> After {
        let skipped = poll_fn(|task| {
            loop {
                if feed.is_over() {
                    return Poll::Ready(Ok(()));
                }
                match self.poll_output(task) {
                    Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Gone)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
                let scratch = &mut *self.worker.scratch.borrow_mut();
                match ready!(body::poll_read(&mut self.stream, scratch, task)) {
                    Ok(count @ 1..) => {
                        let used = feed.skip(&scratch[..count]);
                        self.input.extend_from_slice(&scratch[used..count]);
                    }
                    _ => return Poll::Ready(Err(Gone)),
                }
            }
        });
        match timeout(LINGER, skipped).await {
            Ok(Ok(())) => After::Keep,
            Ok(Err(Gone)) => After::Abort,
            Err(_) => After::Close { lingers: false },
        }
    }

    /// Writes a response.
    async fn respond(&mut self, request: Request<'_>, mut response: WireResponse) -> After {
        let Request {
            method,
            version,
            closes,
            feed,
        } = request;
        // What waits of earlier responses is bounded.
        while self.output.is_full() {
            if poll_fn(|task| self.poll_output(task)).await.is_err() {
                return After::Abort;
            }
        }
        let mut content = Content::of(method, &mut response);
        if self.stream.plain().is_none() {
            content = content.without_files();
        }
        let delimiter = match &content {
            Content::Nothing(None) => Delimiter::Nothing,
            Content::Nothing(Some(length)) | Content::Pieces(_, Some(length)) => {
                Delimiter::Length(*length)
            }
            Content::Whole(bytes) => Delimiter::Length(bytes.len() as u64),
            Content::File(file) => Delimiter::Length(file.left()),
            _ if version == Version::Http10 => Delimiter::Close,
            Content::Pieces(_, None) => Delimiter::Chunks,
        };
        let closes = closes || delimiter == Delimiter::Close;
        let connection = match version {
            _ if closes => encode::Connection::Closes,
            Version::Http10 => encode::Connection::KeptAlive,
            _ => encode::Connection::Kept,
        };
        let out = self.output.tail();
        if out.capacity() == 0 {
            out.reserve(HEAD_ROOM);
        }
        encode::write_head(out, &response, delimiter, connection);
        match content {
            Content::Nothing(_) => {}
            Content::Whole(bytes) => self.output.push(bytes),
            Content::File(mut file) => {
                let sent = poll_fn(|task| self.poll_file(&mut file, task));
                if sent.await.is_err() {
                    return After::Abort;
                }
            }
            Content::Pieces(body, _) => {
                let in_chunks = delimiter == Delimiter::Chunks;
                let mut pieces = Pieces {
                    body,
                    in_chunks,
                    probes: if in_chunks { PROBES } else { 0 },
                    feed,
                };
                if poll_fn(|task| self.poll_pieces(&mut pieces, task))
                    .await
                    .is_err()
                {
                    return After::Abort;
                }
            }
        }
        if !closes {
            return After::Keep;
        }
        match poll_fn(|task| self.poll_output(task)).await {
            Ok(()) => After::Close { lingers: false },
            Err(Gone) => After::Abort,
        }
    }

    /// Has the kernel send a file. Only for a plain connection.
    fn poll_file(&mut self, file: &mut FileBody, task: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        ready!(self.poll_output(task))?;
        let Some(socket) = self.stream.plain() else {
            return Poll::Ready(Err(Gone));
        };
        let mut has_taken = false;
        let sent = file.poll_send(socket, task, || has_taken = true);
        self.judge(&sent, has_taken)
    }

    /// Writes a body as it is made.
    fn poll_pieces(
        &mut self,
        pieces: &mut Pieces<'_>,
        task: &mut Context<'_>,
    ) -> Poll<Result<(), Gone>> {
        loop {
            if self.output.is_full() {
                ready!(self.poll_output(task))?;
            }
            match Pin::new(&mut pieces.body).poll_next(task) {
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                Poll::Ready(Some(Ok(piece))) => self.push_piece(piece, pieces.in_chunks),
                // Without its end the client sees that this is not all.
                Poll::Ready(Some(Err(_))) => {
                    let _ = self.poll_output(task);
                    return Poll::Ready(Err(Gone));
                }
                Poll::Ready(None) => {
                    if pieces.in_chunks {
                        self.output.tail().extend_from_slice(b"0\r\n\r\n");
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    if let Poll::Ready(Err(gone)) = self.poll_output(task) {
                        return Poll::Ready(Err(gone));
                    }
                    let was_open = !self.is_half_closed;
                    match pieces.feed {
                        Some(feed) if feed.wants_more() => {
                            if self.poll_body(feed, task)? {
                                continue;
                            }
                        }
                        Some(feed) if !feed.is_over() => {}
                        _ => self.poll_ahead(task)?,
                    }
                    let is_due = was_open || self.deadline.is_over();
                    if !self.is_half_closed || self.is_blocked || pieces.probes == 0 || !is_due {
                        return Poll::Pending;
                    }
                    pieces.probes -= 1;
                    self.deadline.set(PROBE_INTERVAL);
                    self.output.tail().push(b'0');
                }
            }
        }
    }

    fn push_piece(&mut self, piece: Bytes, in_chunks: bool) {
        if in_chunks {
            encode::write_chunk_size(self.output.tail(), piece.len());
        }
        self.output.push(piece);
        if in_chunks {
            self.output.tail().extend_from_slice(b"\r\n");
        }
    }

    /// Answers what is not a request, and closes.
    async fn refuse(mut self, error: HeadError) {
        let HeadError { status, reason } = error;
        log::debug!(
            "a request of {:?} is refused with {status}: {reason}",
            self.origin.peer
        );
        let response = Response::sentence(status, reason);
        let request = Request {
            method: &Method::GET,
            version: Version::Http11,
            closes: true,
            feed: None,
        };
        let after = self.respond(request, response);
        if let After::Close { .. } = after.await {
            self.close(true).await;
        }
    }

    /// Ends the connection behind its last response. A socket that is closed with unread input is reset, and
    /// takes the response with it: so what the client still sends is read for a while.
    async fn close(mut self, lingers: bool) {
        let closed = async {
            if self.stream.shutdown().await.is_err() || !lingers {
                return;
            }
            let mut left = MAX_LINGER_BYTES;
            while !self.is_half_closed && left > 0 {
                let read = poll_fn(|task| {
                    let scratch = &mut *self.worker.scratch.borrow_mut();
                    body::poll_read(&mut self.stream, scratch, task)
                });
                match read.await {
                    Ok(count @ 1..) => left = left.saturating_sub(count),
                    _ => return,
                }
            }
        };
        // A client that sends on after that has had the time to read.
        let _ = timeout(LINGER, closed).await;
    }
}
