//! A response on its way: its head, and its content as it is made.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::Method;
use actix_http::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::body::Feed;
use super::connection::{After, Connection, Gone};
use super::direct::{DirectWriter, push_piece};
use super::encode::{self, Delimiter};
use super::output::Output;
use crate::http::content::Content;
use crate::http::file::FileBody;
use crate::http::flow::Flow;
use crate::http::head::Version;
use crate::http::response::WireResponse;
use crate::http::trailers::TrailerSlot;
use crate::http::transport::Transport;

/// Room for the head of an ordinary response, and a small body.
const HEAD_ROOM: usize = 512;

/// What a response depends on.
pub(super) struct Request<'r> {
    pub(super) method: &'r Method,
    pub(super) version: Version,
    /// The connection ends with the response.
    pub(super) closes: bool,
    /// The rest of the body, if the handler still reads it.
    pub(super) feed: Option<&'r Feed>,
}

/// A body on its way.
struct Pieces<'f> {
    body: Body,
    /// The body of the request, which is still read.
    feed: Option<&'f Feed>,
    in_chunks: bool,
    trailers: Option<TrailerSlot>,
    /// How often the client is probed when it has shut down its sending side.
    probes: u8,
}

/// Who makes it.
enum Body {
    /// User code, on another thread.
    Flow(Flow),
    Other(BoxBody),
}

/// A client that has shut down its sending side may still read, or have gone altogether. So while the next chunk
/// is not there yet, a zero is sent, which its size will begin with. A client that has gone answers the first one
/// with a reset, so that the second one fails.
const PROBES: u8 = 2;

/// The time between two probes: much longer than a packet and its answer take.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// What of a response is still to be written, and what follows it.
pub(super) struct Rest<'f> {
    content: RestOfContent<'f>,
    closes: bool,
}

enum RestOfContent<'f> {
    Nothing,
    File(FileBody),
    Pieces(Pieces<'f>),
}

impl Rest<'_> {
    /// All of the response waits for the kernel, and the next request is read.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.content, RestOfContent::Nothing) && !self.closes
    }
}

impl<T: Transport> Connection<T> {
    /// Adds the head of a response to what waits, and its content if that is there.
    pub(super) fn begin<'r>(
        &mut self,
        request: &Request<'r>,
        mut response: WireResponse,
    ) -> Rest<'r> {
        let Request {
            method,
            version,
            closes,
            feed,
        } = *request;
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
            Content::Flow(_) | Content::Pieces(_, None) => Delimiter::Chunks,
        };
        if delimiter != Delimiter::Chunks {
            response.drop_trailers();
        }
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
        let mut pieces = |body| {
            let in_chunks = delimiter == Delimiter::Chunks;
            RestOfContent::Pieces(Pieces {
                body,
                in_chunks,
                trailers: response.trailers.take(),
                probes: if in_chunks { PROBES } else { 0 },
                feed,
            })
        };
        let content = match content {
            Content::Nothing(_) => RestOfContent::Nothing,
            Content::Whole(bytes) => {
                self.output.push(bytes);
                RestOfContent::Nothing
            }
            Content::File(file) => RestOfContent::File(file),
            Content::Flow(flow) => pieces(Body::Flow(flow)),
            Content::Pieces(body, _) => pieces(Body::Other(body)),
        };
        Rest { content, closes }
    }

    /// Writes the rest of a response.
    pub(super) async fn finish(&mut self, rest: Rest<'_>) -> After {
        let Rest { content, closes } = rest;
        let written = match content {
            RestOfContent::Nothing => Ok(()),
            RestOfContent::File(mut file) => poll_fn(|task| self.poll_file(&mut file, task)).await,
            RestOfContent::Pieces(mut pieces) => {
                poll_fn(|task| self.poll_pieces(&mut pieces, task)).await
            }
        };
        match written {
            Err(Gone) => return After::Abort,
            Ok(()) if !closes => return After::Keep,
            Ok(()) => {}
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
        if let Some(output) = pieces.body.take_back() {
            self.output = output;
        }
        loop {
            if self.output.is_full() {
                ready!(self.poll_output(task))?;
            }
            match pieces.body.poll_piece(task) {
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                Poll::Ready(Some(Ok(piece))) => {
                    push_piece(&mut self.output, piece, pieces.in_chunks);
                }
                // Without its end the client sees that this is not all.
                Poll::Ready(Some(Err(()))) => {
                    let _ = self.poll_output(task);
                    return Poll::Ready(Err(Gone));
                }
                Poll::Ready(None) => {
                    if pieces.in_chunks {
                        let trailers = pieces.trailers.as_deref().and_then(OnceLock::get);
                        encode::write_last_chunk(self.output.tail(), trailers);
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
                        self.wait_for_pieces(pieces);
                        return Poll::Pending;
                    }
                    pieces.probes -= 1;
                    self.deadline.set(PROBE_INTERVAL);
                    self.output.tail().push(b'0');
                }
            }
        }
    }

    /// Lets the producer of a body go on, if all that it has made is sent, and write to the socket itself.
    fn wait_for_pieces(&mut self, pieces: &Pieces<'_>) {
        let Body::Flow(flow) = &pieces.body else {
            return;
        };
        if !self.output.is_empty() {
            return;
        }
        // A probe may be due to a client that has shut down its sending side.
        let socket = self.stream.plain().filter(|_| !self.is_half_closed);
        flow.settle(socket.map(|socket| {
            let output = std::mem::take(&mut self.output);
            DirectWriter::new(socket, pieces.in_chunks, output)
        }));
    }
}

impl Body {
    /// What the producer was lent, and has left in it.
    fn take_back(&self) -> Option<Output> {
        match self {
            Self::Flow(flow) => flow.take_back().map(DirectWriter::into_output),
            Self::Other(_) => None,
        }
    }

    fn poll_piece(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        match self {
            Self::Flow(flow) => flow.poll_piece(task).map_err(drop),
            Self::Other(body) => Pin::new(body).poll_next(task).map_err(drop),
        }
    }
}
