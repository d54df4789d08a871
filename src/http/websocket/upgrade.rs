//! The upgrade that turns an HTTP connection into a WebSocket session.

use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::body::BodySize;
use actix_http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};
use actix_http::{Method, StatusCode};
use smallvec::SmallVec;

use super::codec::Decoder;
use super::extension::{Agreement, agree_on_deflate};
use super::handshake::{Refusal, Upgrade};
use super::subprotocol::Subprotocol;
use crate::actors::deflate::Encoding;
use crate::actors::hub::{AskHandler, NotifyOpened, OpenWebSocket, PendingClient, SessionStart};
use crate::actors::protocol::{self, Protocol};
use crate::actors::rejection::Rejection;
use crate::actors::session::Session;
use crate::actors::session_writer::SessionWriter;
use crate::http::access::PendingRecord;
use crate::http::handler::Call;
use crate::http::head::Head;
use crate::http::host::NOT_SERVED;
use crate::http::lingering_close;
use crate::http::path::Values;
use crate::http::request::Request;
use crate::http::router::EndpointId;
use crate::http::routes::WebSocketEndpoint;
use crate::http::tcp;
use crate::http::transport::{Transport, limit_writes};
use crate::http::worker::HttpWorker;

/// A connection whose request asks for a WebSocket.
pub(in crate::http) struct Connection<T> {
    pub(in crate::http) stream: T,
    /// Frames that came together with the handshake.
    pub(in crate::http) early: Vec<u8>,
    /// Responses to earlier requests of this connection that were not written yet.
    pub(in crate::http) unsent: Vec<u8>,
}

/// Checks the request and sends it to the hub, or refuses it. Never waits.
pub(in crate::http) fn upgrade<T: Transport>(
    worker: &HttpWorker,
    method: &Method,
    head: &Arc<Head>,
    connection: Connection<T>,
) {
    worker.pulse.count_request();
    let access = worker.config.access.as_ref();
    let Connection {
        stream,
        early,
        unsent,
    } = connection;
    let client = Client {
        record: access.map(|access| Box::new(access.begin(method, head))),
        stream,
        early,
        unsent,
    };
    match check(worker, method, head) {
        Ok(checked) => {
            let open = checked.open(worker, head, client);
            worker.requests.open_websocket(open);
        }
        Err(refusal) => client.refuse(&refusal),
    }
}

/// A client on its socket that has no answer yet.
struct Client<T> {
    /// For the access log, if there is one.
    record: Option<Box<PendingRecord>>,
    stream: T,
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
    protocol: Box<dyn Protocol>,
}

fn check<'w>(worker: &'w HttpWorker, method: &Method, head: &Head) -> Result<Checked<'w>, Refusal> {
    let hosts = worker.routes.hosts.as_ref();
    if hosts.is_some_and(|hosts| !hosts.serves(head)) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, NOT_SERVED));
    }
    let path = head.path();
    let Some(found) = worker.routes.router.websocket(path) else {
        let sentence = format!("No WebSocket is served at {path}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, sentence));
    };
    let settings = &worker.routes.websockets[found.endpoint.0 as usize];
    let upgrade = Upgrade::check(method, head.version, head, &settings.origins)?;
    let is_full =
        settings.needs_admission && !worker.handler.has_capacity_to_connect(found.endpoint);
    if is_full || settings.has_hooks && !worker.handler.has_capacity_to_watch() {
        let sentence = "The server is busy. Try again in a moment.";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence));
    }
    let deflate = if settings.compression {
        agree_on_deflate(head)?
    } else {
        None
    };
    let subprotocol = Subprotocol::choose(&settings.subprotocols, head).cloned();
    let values = found.values;
    let protocol = start_protocol(settings, head, &values, subprotocol.as_ref())?;
    Ok(Checked {
        endpoint: found.endpoint,
        settings,
        upgrade,
        deflate,
        subprotocol,
        values,
        protocol,
    })
}

/// Makes the protocol of the session, unless the route rejects the client.
fn start_protocol(
    settings: &WebSocketEndpoint,
    head: &Head,
    values: &Values,
    subprotocol: Option<&Subprotocol>,
) -> Result<Box<dyn Protocol>, Rejection> {
    let values: SmallVec<[&dyn Display; 2]> = values.iter().map(|value| value as _).collect();
    settings.accept.start(&protocol::Handshake {
        path: head.path(),
        values: &values,
        subprotocol: subprotocol.map(Subprotocol::as_str),
        header: &|name| head.get(&name.parse().ok()?),
    })
}

impl Checked<'_> {
    fn open<T: Transport>(
        self,
        worker: &HttpWorker,
        head: &Arc<Head>,
        client: Client<T>,
    ) -> OpenWebSocket {
        let Self {
            endpoint,
            settings,
            upgrade,
            deflate,
            subprotocol,
            values,
            protocol,
        } = self;
        let call = |values| Call {
            endpoint,
            values,
            request: Some(Request::new(Method::GET, Arc::clone(head))),
        };
        let has_hooks = settings.has_hooks;
        let on_open = has_hooks.then(|| -> NotifyOpened {
            let handler = Rc::clone(&worker.handler);
            let call = call(values.clone());
            Box::new(move |session| handler.opened(call, session))
        });
        let admission = settings.needs_admission.then(|| -> AskHandler {
            let handler = Rc::clone(&worker.handler);
            let call = call(values);
            Box::new(move |session, link| handler.connect(call, session, link))
        });
        OpenWebSocket {
            opening: Box::new(Handshake {
                client,
                upgrade,
                deflate,
                subprotocol,
                has_hooks,
            }),
            protocol,
            limits: Rc::clone(&worker.limits[endpoint.0 as usize]),
            endpoint: endpoint.0,
            admission,
            on_open,
        }
    }
}

impl<T: Transport> Client<T> {
    /// Answers with a plain response and closes.
    fn refuse(self, refusal: &Refusal) {
        if let Some(record) = self.record {
            record.finish(refusal.status.as_u16(), BodySize::Stream);
        }
        let mut answer = self.unsent;
        refusal.write(&mut answer);
        lingering_close::respond_and_close(self.stream, answer);
    }
}

struct Handshake<T> {
    client: Client<T>,
    upgrade: Upgrade,
    deflate: Option<Agreement>,
    /// The subprotocol of the endpoint that was chosen among the offers of the client.
    subprotocol: Option<Subprotocol>,
    /// The end of the session is reported to user code.
    has_hooks: bool,
}

impl<T: Transport> PendingClient for Handshake<T> {
    fn accept(self: Box<Self>, start: SessionStart) -> Rc<SessionWriter> {
        let Self {
            client:
                Client {
                    record,
                    stream,
                    early,
                    unsent,
                },
            upgrade,
            deflate,
            subprotocol,
            has_hooks,
        } = *self;
        let SessionStart {
            key,
            shared,
            protocol,
            limits,
            link,
            subprotocol: chosen,
        } = start;
        let chosen = chosen
            .and_then(|name| Subprotocol::new(name).ok())
            .or(subprotocol);
        // A session has a limit of its own for that, or none.
        limit_writes(stream.socket(), None);
        if limits.overflow.replaces_older() {
            tcp::keep_little_unsent(stream.socket());
        }
        let (reader, socket) = stream.split();
        let turn_queue = Rc::clone(&shared.turn_queue);
        let mut decoder = Decoder::new(limits.max_message_size);
        let mut encoding = Encoding::Plain;
        if let Some(agreed) = &deflate {
            decoder = decoder.inflating();
            encoding = Encoding::Deflated(agreed.window);
        }
        let writer = Rc::new(SessionWriter::new(
            Box::new(socket),
            key,
            encoding,
            &limits,
            link,
            turn_queue,
        ));
        let mut response = unsent;
        let extensions = deflate
            .iter()
            .map(|agreed| (&SEC_WEBSOCKET_EXTENSIONS, &agreed.answer));
        upgrade.write(chosen.as_ref(), extensions, &mut response);
        let sending = Rc::clone(&writer);
        let mut session = Session::new(shared, reader, decoder, protocol, sending, limits, early);
        if has_hooks {
            session = session.observed();
        }
        session.open(response);
        if let Some(record) = record {
            let open = record.open();
            tokio::task::spawn_local(async move {
                open.close(&session.await);
            });
        } else {
            tokio::task::spawn_local(session);
        }
        writer
    }

    fn reject(self: Box<Self>, rejection: Rejection) {
        self.client.refuse(&rejection.into());
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let status = StatusCode::from_u16(rejection.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut refusal = Self::new(status, rejection.body);
        for (name, value) in rejection.headers {
            if let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
            {
                refusal.headers.push((name, value));
            }
        }
        refusal
    }
}
