//! The writer of one response: its head, and its content while it is produced.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::body::Feed;
use super::connection::{AfterResponse, ClientGone, Connection, ResponseContext};
use super::direct::DirectWriter;
use super::encode::{self, ConnectionHeader, Delimiter};
use super::output::Output;
use crate::http::file_body::FileBody;
use crate::http::head::Version;
use crate::http::response::WireResponse;
use crate::http::stream_body::StreamBody;
use crate::http::trailers::TrailerSlot;
use crate::http::transport::Transport;
use crate::http::wire_content::WireContent;

/// Bytes reserved for the head of an ordinary response with a small body.
const HEAD_ROOM: usize = 512;

/// A body that is being sent.
struct OutgoingBody<'f> {
    body: BodySource,
    /// The body of the request, which the handler still reads.
    feed: Option<&'f Feed>,
    in_chunks: bool,
    trailers: Option<TrailerSlot>,
    /// Probes that remain for a client that has closed its sending side.
    probes: u8,
}

/// The producer of a body.
enum BodySource {
    /// User code on another thread.
    Stream(StreamBody),
    Other(BoxBody),
}

/// Probes for a client that has closed its sending side: it may still read, or have disconnected. While the next
/// chunk is not there yet, the server sends a zero, which becomes the first digit of its size. A client that has
/// disconnected answers the first probe with a reset, so the second one fails.
const PROBES: u8 = 2;

/// Time between two probes: much longer than the round trip of a packet.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The part of a response that is not written yet, and the end of the connection.
pub(super) struct UnsentResponse<'f> {
    content: UnsentContent<'f>,
    closes: bool,
}

enum UnsentContent<'f> {
    Nothing,
    File(FileBody),
    Stream(OutgoingBody<'f>),
}

impl UnsentResponse<'_> {
    /// Whether all of the response is queued, and the connection stays open.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.content, UnsentContent::Nothing) && !self.closes
    }
}

impl<T: Transport> Connection<T> {
    /// Queues the head of a response, and its content if that is complete.
    pub(super) fn start_response<'r>(
        &mut self,
        context: &ResponseContext<'r>,
        mut response: WireResponse,
    ) -> UnsentResponse<'r> {
        let ResponseContext {
            method,
            version,
            closes,
            feed,
        } = *context;
        let mut content = WireContent::of(method, &mut response);
        if self.stream.plain().is_none() {
            content = content.without_files();
        }
        let delimiter = match &content {
            WireContent::Nothing(None) => Delimiter::Nothing,
            WireContent::Nothing(Some(length)) | WireContent::Chunks(_, Some(length)) => {
                Delimiter::Length(*length)
            }
            WireContent::Whole(bytes) => Delimiter::Length(bytes.len() as u64),
            WireContent::File(file) => Delimiter::Length(file.left()),
            _ if version == Version::Http10 => Delimiter::Close,
            WireContent::Stream(_) | WireContent::Chunks(_, None) => Delimiter::Chunks,
        };
        if delimiter != Delimiter::Chunks {
            response.drop_trailers();
        }
        let closes = closes || delimiter == Delimiter::Close;
        let connection = match version {
            _ if closes => ConnectionHeader::Close,
            Version::Http10 => ConnectionHeader::KeepAlive,
            _ => ConnectionHeader::Absent,
        };
        let out = self.output.tail();
        if out.capacity() == 0 {
            out.reserve(HEAD_ROOM);
        }
        encode::write_head(out, &response, delimiter, connection);
        let mut outgoing = |body| {
            let in_chunks = delimiter == Delimiter::Chunks;
            UnsentContent::Stream(OutgoingBody {
                body,
                in_chunks,
                trailers: response.trailers.take(),
                probes: if in_chunks { PROBES } else { 0 },
                feed,
            })
        };
        let content = match content {
            WireContent::Nothing(_) => UnsentContent::Nothing,
            WireContent::Whole(bytes) => {
                self.output.push(bytes);
                UnsentContent::Nothing
            }
            WireContent::File(file) => UnsentContent::File(file),
            WireContent::Stream(stream) => outgoing(BodySource::Stream(stream)),
            WireContent::Chunks(body, _) => outgoing(BodySource::Other(body)),
        };
        UnsentResponse { content, closes }
    }

    /// Writes the rest of a response.
    pub(super) async fn finish_response(&mut self, unsent: UnsentResponse<'_>) -> AfterResponse {
        let UnsentResponse { content, closes } = unsent;
        let written = match content {
            UnsentContent::Nothing => Ok(()),
            UnsentContent::File(mut file) => poll_fn(|task| self.poll_file(&mut file, task)).await,
            UnsentContent::Stream(mut outgoing) => {
                poll_fn(|task| self.poll_stream(&mut outgoing, task)).await
            }
        };
        match written {
            Err(ClientGone) => return AfterResponse::Abort,
            Ok(()) if !closes => return AfterResponse::Keep,
            Ok(()) => {}
        }
        match poll_fn(|task| self.poll_output(task)).await {
            Ok(()) => AfterResponse::Close {
                should_linger: false,
            },
            Err(ClientGone) => AfterResponse::Abort,
        }
    }

    /// Lets the kernel send a file. Only for a plain connection.
    fn poll_file(
        &mut self,
        file: &mut FileBody,
        task: &mut Context<'_>,
    ) -> Poll<Result<(), ClientGone>> {
        ready!(self.poll_output(task))?;
        let Some(socket) = self.stream.plain() else {
            return Poll::Ready(Err(ClientGone));
        };
        let mut has_taken = false;
        let sent = file.poll_send(socket, task, || has_taken = true);
        self.track_write(&sent, has_taken)
    }

    /// Writes a body while it is produced.
    fn poll_stream(
        &mut self,
        outgoing: &mut OutgoingBody<'_>,
        task: &mut Context<'_>,
    ) -> Poll<Result<(), ClientGone>> {
        if let Some(output) = outgoing.body.reclaim_output() {
            self.output = output;
        }
        loop {
            if self.output.is_full() {
                ready!(self.poll_output(task))?;
            }
            match outgoing.body.poll_chunk(task) {
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => {
                    self.output.push_chunk(chunk, outgoing.in_chunks);
                }
                // Without its end the client notices that the body is incomplete.
                Poll::Ready(Some(Err(()))) => {
                    let _ = self.poll_output(task);
                    return Poll::Ready(Err(ClientGone));
                }
                Poll::Ready(None) => {
                    if outgoing.in_chunks {
                        let trailers = outgoing.trailers.as_deref().and_then(OnceLock::get);
                        encode::write_last_chunk(self.output.tail(), trailers);
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    if let Poll::Ready(Err(error)) = self.poll_output(task) {
                        return Poll::Ready(Err(error));
                    }
                    let was_open = !self.is_half_closed;
                    match outgoing.feed {
                        Some(feed) if feed.wants_more() => {
                            if self.poll_body(feed, task)? {
                                continue;
                            }
                        }
                        Some(feed) if !feed.is_over() => {}
                        _ => self.poll_ahead(task)?,
                    }
                    let is_due = was_open || self.deadline.is_over();
                    if !self.is_half_closed || self.is_blocked || outgoing.probes == 0 || !is_due {
                        self.wait_for_producer(outgoing);
                        return Poll::Pending;
                    }
                    outgoing.probes -= 1;
                    self.deadline.set(PROBE_INTERVAL);
                    self.output.tail().push(b'0');
                }
            }
        }
    }

    /// Lets the producer continue if all its chunks are sent. It gets the writer of a plain connection.
    fn wait_for_producer(&mut self, outgoing: &OutgoingBody<'_>) {
        let BodySource::Stream(stream) = &outgoing.body else {
            return;
        };
        if !self.output.is_empty() {
            return;
        }
        // The connection itself may have to probe a client that has closed its sending side.
        let socket = self.stream.plain().filter(|_| !self.is_half_closed);
        stream.mark_sent(socket.map(|socket| {
            let output = std::mem::take(&mut self.output);
            DirectWriter::new(socket, outgoing.in_chunks, output)
        }));
    }
}

impl BodySource {
    /// Takes the output back from the producer.
    fn reclaim_output(&self) -> Option<Output> {
        match self {
            Self::Stream(stream) => stream.reclaim_writer().map(DirectWriter::into_output),
            Self::Other(_) => None,
        }
    }

    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        match self {
            Self::Stream(stream) => stream.poll_chunk(task).map_err(drop),
            Self::Other(body) => Pin::new(body).poll_next(task).map_err(drop),
        }
    }
}
