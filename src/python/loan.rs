//! The loans of large bytes and strings: Rust sends their memory without a copy.
//!
//! The object is held until the connection has written it. That happens on the I/O thread, which never attaches to
//! the interpreter. So the object goes back to the event loop, which releases it.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::events::{Event, EventBox, LentObject};
use crate::actors::frame::LARGE_BYTES;

/// Written objects wait for the event loop's next batch. From this number of bytes on they wake it.
const WAKE_BYTES: usize = 2 << 20;

/// The bytes of an object: the object itself, if it is large, else a copy.
pub(super) fn bytes_of(bytes: &Bound<'_, PyBytes>, events: &EventBox) -> Bytes {
    if bytes.as_bytes().len() < LARGE_BYTES {
        return Bytes::copy_from_slice(bytes.as_bytes());
    }
    lend(LentObject::Bytes(bytes.clone().into()), events)
}

/// The same for a string, in UTF-8. An error: it has lone surrogates.
pub(super) fn text_of(text: &Bound<'_, PyString>, events: &EventBox) -> PyResult<Bytes> {
    let utf8 = text.to_str()?;
    if utf8.len() < LARGE_BYTES {
        return Ok(Bytes::copy_from_slice(utf8.as_bytes()));
    }
    Ok(lend(LentObject::Text(text.clone().try_into()?), events))
}

fn lend(object: LentObject, events: &EventBox) -> Bytes {
    let events = EventBox::clone(events);
    let object = Some(object);
    Bytes::from_owner(Loan { object, events })
}

/// The owner of the bytes that are made of an object.
struct Loan {
    /// Taken when the loan is dropped.
    object: Option<LentObject>,
    events: EventBox,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self.object.as_ref().map_or(&[], LentObject::as_ref)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let is_much = self.events.post_quietly(|batch| {
            batch.released += object.as_ref().len();
            batch.push(Event::Release { object });
            batch.released >= WAKE_BYTES
        });
        if is_much {
            self.events.wake();
        }
    }
}
