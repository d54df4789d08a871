//! From an upgrade request on an HTTP connection to a session on the bare socket.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::header::SEC_WEBSOCKET_EXTENSIONS;
use actix_http::{Request as HttpRequest, StatusCode, h1};
use actix_web::dev::RequestHead;
use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

use super::codec::Decoder;
use super::extension::{Agreement, agree_on_deflate};
use super::handshake::{Refusal, Upgrade};
use super::subprotocol::Subprotocol;
use crate::actors::deflate::Encoding;
use crate::actors::hub::{Ask, Open, Opening, Seat, Tell};
use crate::actors::outbox::Source;
use crate::actors::outlet::{Outlet, Writer};
use crate::actors::session::{Route, Session};
use crate::http::handler::Call;
use crate::http::path::Values;
use crate::http::request::{Body, Request};
use crate::http::router::EndpointId;
use crate::http::routes::{Behaviour, WebSocketEndpoint};
use crate::http::service::Worker;

/// An HTTP connection whose request asks for an upgrade.
pub(in crate::http) type Framed = actix_codec::Framed<TcpStream, h1::Codec>;

/// Checks the request and sends it to the hub, or refuses it. Never waits.
pub(in crate::http) fn upgrade(worker: &Worker, request: &HttpRequest, framed: Framed) {
    let parts = framed.into_parts();
    let client = Client {
        stream: parts.io,
        early: parts.read_buf.to_vec(),
        unsent: parts.write_buf.to_vec(),
    };
    match check(worker, request.head()) {
        Ok(checked) => worker
            .end_of_turn
            .open(checked.open(worker, request.head(), client)),
        Err(refusal) => client.refuse(&refusal),
    }
}

/// A client on its socket, not answered yet.
struct Client {
    stream: TcpStream,
    /// Frames that came together with the handshake.
    early: Vec<u8>,
    /// Responses to earlier requests of this connection that were not written yet.
    unsent: Vec<u8>,
}

/// A handshake that may become a session.
struct Checked<'w> {
    endpoint: EndpointId,
    settings: &'w WebSocketEndpoint,
    upgrade: Upgrade,
    /// For a client whose offer of permessage-deflate is accepted.
    deflate: Option<Agreement>,
    subprotocol: Option<Subprotocol>,
    values: Values,
    route: Route,
}

fn check<'w>(worker: &'w Worker, head: &RequestHead) -> Result<Checked<'w>, Refusal> {
    let path = head.uri.path();
    let Some(found) = worker.routes.router.websocket(path) else {
        let sentence = format!("No WebSocket is served at {path}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, sentence));
    };
    let settings = &worker.routes.websockets[found.endpoint.0 as usize];
    let upgrade = Upgrade::check(
        &head.method,
        head.version,
        head.headers(),
        &settings.origins,
    )?;
    if settings.watched && !worker.handler.has_room_to_watch() {
        let sentence = "The server is busy. Try again in a moment.";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence));
    }
    let deflate = if settings.compression {
        agree_on_deflate(head.headers())?
    } else {
        None
    };
    let subprotocol = Subprotocol::choose(&settings.subprotocols, head.headers()).cloned();
    let route = match &settings.behaviour {
        Behaviour::Echo(prefix) => Route::Echo(prefix.as_bytes().into()),
        Behaviour::Relay(template) => match template.fill(&found.values) {
            Ok(topic) => Route::Relay(Box::new(topic)),
            Err(error) => return Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string())),
        },
        Behaviour::Handler => Route::Handler,
    };
    let (endpoint, values) = (found.endpoint, found.values);
    Ok(Checked {
        endpoint,
        settings,
        upgrade,
        deflate,
        subprotocol,
        values,
        route,
    })
}

impl Checked<'_> {
    fn open(self, worker: &Worker, head: &RequestHead, client: Client) -> Open {
        let Self {
            endpoint,
            settings,
            upgrade,
            deflate,
            subprotocol,
            values,
            route,
        } = self;
        let asks = settings.asks || matches!(route, Route::Handler);
        let call = |values| Call {
            endpoint,
            values,
            request: Some(Request::new(head, Body::Bytes(Bytes::new()))),
        };
        let watched = settings.watched;
        let watch = watched.then(|| -> Tell {
            let handler = Rc::clone(&worker.handler);
            let call = call(values.clone());
            Box::new(move |session| handler.opened(call, session))
        });
        let ask = asks.then(|| -> Ask {
            let handler = Rc::clone(&worker.handler);
            let call = call(values);
            Box::new(move |session, link| handler.connect(call, session, link))
        });
        Open {
            opening: Box::new(Handshake {
                client,
                upgrade,
                deflate,
                subprotocol,
                watched,
            }),
            route,
            limits: Rc::clone(&worker.limits[endpoint.0 as usize]),
            endpoint: endpoint.0,
            ask,
            watch,
        }
    }
}

impl Client {
    /// Answers with a plain response and closes, in a small task of its own. What the client still
    /// sends is read: a socket dropped with unread input is reset, and takes the answer with it.
    fn refuse(self, refusal: &Refusal) {
        let Self {
            mut stream, unsent, ..
        } = self;
        let mut answer = unsent;
        refusal.write(&mut answer);
        let answered = async move {
            // A client that has gone does not miss the answer.
            if stream.write_all(&answer).await.is_err() || stream.shutdown().await.is_err() {
                return;
            }
            let mut ignored = [0; 1024];
            while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
        };
        tokio::task::spawn_local(timeout(LINGER, answered));
    }
}

/// A refused client has this long to read the answer.
const LINGER: Duration = Duration::from_secs(5);

/// A peer that takes nothing of what is sent for this long is cut off by the kernel.
pub(in crate::http) fn limit_writes(stream: &TcpStream, timeout: Option<Duration>) {
    // A connection that is gone already needs no limit.
    let _ = SockRef::from(stream).set_tcp_user_timeout(timeout);
}

struct Handshake {
    client: Client,
    upgrade: Upgrade,
    deflate: Option<Agreement>,
    /// The one of the endpoint's that the client prefers.
    subprotocol: Option<Subprotocol>,
    /// User code is told of its session's end.
    watched: bool,
}

impl Opening for Handshake {
    fn accept(self: Box<Self>, seat: Seat) -> Rc<Outlet> {
        let Self {
            client:
                Client {
                    stream,
                    early,
                    unsent,
                },
            upgrade,
            deflate,
            subprotocol,
            watched,
        } = *self;
        let Seat {
            key,
            shared,
            route,
            limits,
            link,
            subprotocol: chosen,
        } = seat;
        let chosen = chosen
            .and_then(|name| Subprotocol::new(name).ok())
            .or(subprotocol);
        // A session has a limit of its own for that, or none.
        limit_writes(&stream, None);
        let (reader, writer) = stream.into_split();
        let end_of_turn = Rc::clone(&shared.end_of_turn);
        let mut decoder = Decoder::new(limits.max_message_size);
        let mut encoding = Encoding::Plain;
        if let Some(agreed) = &deflate {
            decoder = decoder.inflating();
            encoding = Encoding::Deflated(agreed.window);
        }
        let outlet = Rc::new(Outlet::new(
            Box::new(writer),
            key,
            encoding,
            &limits,
            link,
            end_of_turn,
        ));
        let mut answer = unsent;
        let extensions = deflate
            .iter()
            .map(|agreed| (&SEC_WEBSOCKET_EXTENSIONS, &agreed.answer));
        upgrade.write(chosen.as_ref(), extensions, &mut answer);
        outlet.send(&answer, Source::Session);
        let sending = Rc::clone(&outlet);
        let session = Session::new(shared, reader, decoder, route, sending, limits, early);
        let session = if watched { session.watched() } else { session };
        tokio::task::spawn_local(session);
        outlet
    }

    fn reject(self: Box<Self>, status: u16, reason: &str) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.client.refuse(&Refusal::new(status, reason.to_owned()));
    }
}

impl Writer for OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        OwnedWriteHalf::try_write(self, bytes)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        OwnedWriteHalf::try_write_vectored(self, slices)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(context)
    }

    fn finish(&self) {
        // A connection that is gone already needs no farewell.
        let _ = SockRef::from(self.as_ref()).shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::tcp::OwnedReadHalf;

    use super::*;

    #[test]
    fn a_session_and_its_task_are_four_cache_lines() {
        // Tokio aligns a task to two cache lines, and adds about a hundred bytes to what it runs.
        type Open = Session<OwnedReadHalf, Decoder>;
        assert!(size_of::<Open>() <= 144, "{}", size_of::<Open>());
    }
}
