//! The message that Python sends or publishes: str or bytes.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use bytes::Bytes;

use super::events::EventBox;
use super::loan;
use crate::actors::frame::{Kind, LARGE_BYTES};

/// The argument of `send` and `publish`.
pub(super) enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// A copy of a bytearray, memoryview or the like, which may change.
    Copied(Vec<u8>),
}

impl<'a> Message<'a> {
    /// Reads `message`. `verb` names the method in the error.
    pub(super) fn new(message: &'a Bound<'_, PyAny>, verb: &str) -> PyResult<Self> {
        if let Ok(text) = message.cast::<PyString>() {
            return Ok(Self::Text(text.to_str()?));
        }
        if let Ok(bytes) = message.cast::<PyBytes>() {
            return Ok(Self::Binary(bytes.as_bytes()));
        }
        if let Ok(buffer) = PyBuffer::<u8>::get(message) {
            return Ok(Self::Copied(buffer.to_vec(message.py())?));
        }
        let kind = message.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "{verb} expects str or bytes, got {kind}. For JSON use json.dumps(...)."
        )))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) | Self::Copied(_) => Kind::Binary,
        }
    }

    /// A large message as a block of its own: the memory of `object`, which it was read from, or the copy. `Err` is a
    /// small message.
    pub(super) fn into_large(
        self,
        object: &Bound<'_, PyAny>,
        events: &EventBox,
    ) -> PyResult<Result<Bytes, Self>> {
        if self.bytes().len() < LARGE_BYTES {
            return Ok(Err(self));
        }
        Ok(Ok(match self {
            Self::Text(_) => loan::text_of(object.cast()?, events)?,
            Self::Binary(_) => loan::bytes_of(object.cast()?, events),
            Self::Copied(bytes) => bytes.into(),
        }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Makes a str or bytes of a received message.
pub(super) fn to_python(py: Python<'_>, kind: Kind, payload: &[u8]) -> PyResult<Py<PyAny>> {
    match kind {
        Kind::Text => Ok(PyString::from_bytes(py, payload)?.into_any().unbind()),
        Kind::Binary => Ok(PyBytes::new(py, payload).into_any().unbind()),
    }
}
