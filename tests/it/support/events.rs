//! A client of an event stream over HTTP/1.1: it takes chunks apart, and then events.

use std::net::SocketAddr;

use super::client::{Client, End};

/// One event, as the standard has it taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: String,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// With its last chunk: the server has said all.
    Whole,
    /// Without it: the client sees that something is missing.
    Broken,
}

pub struct Events {
    client: Client,
    /// What came, without the chunks around it.
    text: String,
    /// The last id that was told.
    pub id: String,
}

impl Events {
    /// A stream that has begun: what is published from now on is for it.
    #[track_caller]
    pub fn open(address: SocketAddr, topic: &str, last_event_id: Option<&str>) -> Self {
        Self::on(Client::connect(address), topic, last_event_id).expect("it is let in")
    }

    /// The same on this connection; the status of a refusal.
    #[track_caller]
    pub fn on(mut client: Client, topic: &str, last_event_id: Option<&str>) -> Result<Self, u16> {
        let id = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
        let id = id.unwrap_or_default();
        let request = format!("GET /events/{topic} HTTP/1.1\r\nHost: localhost\r\n{id}\r\n");
        client.send_bytes(request.as_bytes());
        let head = client.head();
        if head.status != 200 {
            return Err(head.status);
        }
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        Ok(Self {
            client,
            text: String::new(),
            id: String::new(),
        })
    }

    /// The next event; blocks without data only tell where the client is.
    pub fn next(&mut self) -> Result<Event, Ending> {
        loop {
            let block = self.block()?;
            let mut data = Vec::new();
            let mut kind = "message";
            for line in block.lines() {
                match line.split_once(": ") {
                    Some(("id", id)) => id.clone_into(&mut self.id),
                    Some(("event", name)) => kind = name,
                    Some(("data", line)) => data.push(line),
                    _ => {}
                }
            }
            if !data.is_empty() {
                return Ok(Event {
                    id: self.id.clone(),
                    kind: kind.to_owned(),
                    data: data.join("\n"),
                });
            }
        }
    }

    /// The next message's text.
    #[track_caller]
    pub fn message(&mut self) -> String {
        let event = self.next().expect("an event, not the end");
        assert_eq!(event.kind, "message", "{event:?}");
        event.data
    }

    /// With the client's sending side shut down.
    pub fn half_closed(self) -> Self {
        self.client.half_close();
        self
    }

    /// The connection below it.
    pub fn into_client(self) -> Client {
        self.client
    }

    fn block(&mut self) -> Result<String, Ending> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Ok(std::mem::replace(&mut self.text, rest));
            }
            let chunk = self.chunk().map_err(|_| Ending::Broken)?;
            if chunk.is_empty() {
                assert_eq!(self.text, "", "whole events");
                return Err(Ending::Whole);
            }
            let text = str::from_utf8(&chunk).expect("chunks are whole events, which are text");
            self.text.push_str(text);
        }
    }

    fn chunk(&mut self) -> Result<Vec<u8>, End> {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size.push(char::from(self.client.try_bytes(1)?[0]));
        }
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk's size");
        let mut chunk = self.client.try_bytes(size + 2)?;
        chunk.truncate(size);
        Ok(chunk)
    }
}
