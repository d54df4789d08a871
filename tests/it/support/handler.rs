//! User code in Rust: it does what the client's messages say, as a handler in Python would, through
//! the hub's orders.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};

use actix_http::StatusCode;
use bytes::Bytes;
use fanbus::actors::close::CloseCause;
use fanbus::actors::frame::{Kind, message_header};
use fanbus::actors::hub::{Command, CommandMailbox};
use fanbus::actors::inbox::Inbox;
use fanbus::actors::limits::Limits;
use fanbus::actors::link::Link;
use fanbus::actors::rejection::Rejection;
use fanbus::actors::session_key::SessionKey;
use fanbus::actors::topic::Topic;
use fanbus::http::event_stream::EventStream;
use fanbus::http::handler::{Call, Handler};
use fanbus::http::replies::{ReplyBox, ReplyKey};
use fanbus::http::request::RequestContent;
use fanbus::http::response::{Response, ResponseBody};
use fanbus::http::router::EndpointId;
use fanbus::ipc::{Bus, Draft};

use super::worker::http;

/// What the test is told.
#[derive(Debug)]
pub enum Seen {
    /// A session that is watched is open.
    Opened(SessionKey),
    /// A client asks to come in.
    Asked(SessionKey),
    /// A session is over.
    Closed(SessionKey, u16),
    /// A request waits for the test to answer it.
    Held(ReplyKey),
    /// A message for a handler that does not receive.
    Unreceived(SessionKey, Arc<Link>, usize),
}

/// The session of a client that asked.
pub fn asked(seen: &Seen) -> Option<SessionKey> {
    match seen {
        Seen::Asked(session) => Some(*session),
        _ => None,
    }
}

pub struct Scripted {
    pub bus: Bus,
    pub orders: CommandMailbox,
    pub replies: ReplyBox,
    pub seen: Mutex<mpsc::Sender<Seen>>,
    /// False: the handler's mailbox is full.
    pub has_room: Arc<AtomicBool>,
    pub watches: Arc<AtomicBool>,
    /// Of event streams.
    pub stream_limits: Limits,
    sessions: RefCell<HashMap<u64, Client>>,
}

#[derive(Clone)]
struct Client {
    mode: String,
    link: Arc<Link>,
}

impl Scripted {
    pub fn start(
        bus: Bus,
        (orders, replies): (CommandMailbox, ReplyBox),
        seen: mpsc::Sender<Seen>,
        has_room: Arc<AtomicBool>,
        watches: Arc<AtomicBool>,
        stream_limits: Limits,
    ) -> Rc<dyn Handler> {
        Rc::new(Self {
            bus,
            orders,
            replies,
            seen: Mutex::new(seen),
            has_room,
            watches,
            stream_limits,
            sessions: RefCell::default(),
        })
    }

    fn tell(&self, seen: Seen) {
        // The test may have ended.
        let _ = self.seen.lock().expect("nobody panics in there").send(seen);
    }

    fn order(&self, command: Command) {
        self.orders.post(|commands| commands.push(command));
    }

    fn send(&self, session: SessionKey, link: &Link, text: &str) {
        let header = message_header(Kind::Text, text.len());
        link.sent(header.len() + text.len());
        self.orders
            .post(|commands| commands.push_send(session, &[&header, text.as_bytes()]));
    }

    /// `verb rest`: see each.
    fn obey(&self, session: SessionKey, link: &Link, message: &str) {
        let (verb, rest) = message.split_once(' ').unwrap_or((message, ""));
        match verb {
            "say" => self.send(session, link, rest),
            "say-times" => {
                let (times, text) = rest.split_once(' ').expect("times and text");
                for _ in 0..times.parse().expect("a number") {
                    self.send(session, link, text);
                }
            }
            "subscribe" => {
                self.subscribe(session, rest);
                self.send(session, link, &format!("subscribed {}", self.bus.end()));
            }
            "unsubscribe" => {
                let topic = Topic::new(rest).expect("a topic");
                self.order(Command::Unsubscribe { session, topic });
                self.send(session, link, "unsubscribed");
            }
            "publish" | "publish-to-others" => {
                let (topic, text) = rest.split_once(' ').expect("topic and text");
                let left_out = if verb == "publish" {
                    0
                } else {
                    session.as_u64()
                };
                publish(&self.bus, topic, text.as_bytes(), left_out);
                // As the rim does when Python publishes: the bus wakes who sleeps.
            }
            "publish-times" => {
                let mut words = rest.splitn(2, ' ');
                let topic = words.next().expect("a topic");
                let times: u32 = words.next().and_then(|n| n.parse().ok()).expect("a number");
                for number in 0..times {
                    publish(&self.bus, topic, number.to_string().as_bytes(), 0);
                }
            }
            "publish-numbered" => {
                let mut words = rest.splitn(3, ' ');
                let topic = words.next().expect("a topic");
                let times: u32 = words.next().and_then(|n| n.parse().ok()).expect("a number");
                let text = words.next().expect("a text");
                for number in 0..times {
                    publish(&self.bus, topic, format!("{number} {text}").as_bytes(), 0);
                }
            }
            "close" => self.order(Command::Close {
                session,
                cause: CloseCause::Application {
                    code: rest.parse().expect("a code"),
                    reason: "as you wish".to_owned(),
                },
            }),
            other => panic!("no such verb: {other}"),
        }
    }

    fn events(&self, topic: &str) -> Response {
        Response {
            body: ResponseBody::Events(Box::new(EventStream {
                end: Arc::default(),
                topic: Topic::new(topic).expect("a topic"),
                last: None,
                last_event_id: None,
                retry_ms: 100,
                limits: self.stream_limits.clone(),
            })),
            ..Response::sentence(StatusCode::OK, "")
        }
    }

    fn subscribe(&self, session: SessionKey, topic: &str) {
        let topic = Topic::new(topic).expect("a topic");
        self.bus.add_interest(topic.hash());
        let from = self.bus.end();
        self.order(Command::Subscribe {
            session,
            topic,
            from,
        });
    }
}

/// Publishes a text message.
pub fn publish(bus: &Bus, topic: &str, payload: &[u8], left_out: u64) -> u64 {
    let topic = Topic::new(topic).expect("a topic");
    let header = message_header(Kind::Text, payload.len());
    let draft = Draft {
        topic: topic.as_str(),
        topic_hash: topic.hash(),
        flags: 0,
        exclude_session: left_out,
        frame: [&header, payload],
    };
    bus.publish(&draft).expect("the bus takes it")
}

impl Inbox for Scripted {
    fn message(&self, session: SessionKey, _kind: Kind, payload: Cow<'_, [u8]>) {
        let client = self.sessions.borrow()[&session.as_u64()].clone();
        if client.mode == "deaf" {
            self.tell(Seen::Unreceived(session, client.link, payload.len()));
            return;
        }
        if client.link.received(payload.len()) {
            self.order(Command::Resume { session });
        }
        let text = str::from_utf8(&payload).expect("tests speak text");
        self.obey(session, &client.link, text);
        if client.link.waits_for_message() {
            self.order(Command::Resume { session });
        }
    }

    fn closed(&self, session: SessionKey, cause: &CloseCause) {
        self.sessions.borrow_mut().remove(&session.as_u64());
        self.tell(Seen::Closed(session, cause.code()));
    }

    fn send_ready(&self, _session: SessionKey) {}

    fn has_capacity(&self) -> bool {
        self.has_room.load(SeqCst)
    }

    fn flush(&self, _stalled: bool) {}
}

impl Handler for Scripted {
    fn request(&self, call: Call, reply: ReplyKey) {
        let body = match call.request.map(|request| request.body) {
            Some(RequestContent::Bytes(body)) => body,
            _ => Bytes::new(),
        };
        let response = match call.endpoint {
            http::HELLO => Response::sentence(StatusCode::OK, "hello"),
            http::BODY => Response::sentence(StatusCode::OK, body.len().to_string()),
            http::BIG => Response::sentence(StatusCode::OK, "x".repeat(32 << 20)),
            http::KEPT => Response::sentence(StatusCode::OK, "kept"),
            http::EVENTS => self.events(&call.values[0].to_string()),
            _ => return self.tell(Seen::Held(reply)),
        };
        self.replies
            .post(|replies| replies.push((reply, response.into())));
    }

    fn has_capacity_for_request(&self, _endpoint: EndpointId) -> bool {
        self.has_capacity()
    }

    fn has_capacity_to_connect(&self, _endpoint: EndpointId) -> bool {
        self.has_capacity()
    }

    fn opened(&self, _call: Call, session: SessionKey) {
        self.tell(Seen::Opened(session));
    }

    fn has_capacity_to_watch(&self) -> bool {
        self.watches.load(SeqCst)
    }

    fn connect(&self, call: Call, session: SessionKey, link: Arc<Link>) {
        let mode = call
            .values
            .iter()
            .next()
            .map_or_else(String::new, ToString::to_string);
        let client = Client {
            mode: mode.clone(),
            link,
        };
        self.sessions.borrow_mut().insert(session.as_u64(), client);
        let accept = || Command::Accept {
            session,
            subprotocol: None,
        };
        let reject = || Command::Reject {
            session,
            rejection: Box::new(Rejection::new(418, "no tea")),
        };
        match mode.as_str() {
            "silent" => self.tell(Seen::Asked(session)),
            "reject" => self.order(reject()),
            "twice" => {
                self.order(accept());
                self.order(accept());
                self.order(reject());
            }
            "named" => {
                self.order(accept());
                self.tell(Seen::Asked(session));
            }
            _ => self.order(accept()),
        }
    }
}
