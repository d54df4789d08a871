//! The cache of dict keys that repeat: in a list of rows, all rows have the keys of the first.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::out::Out;
use super::text;

const PLACES: usize = 64;

/// Bytes of the longest entry: a comma, the quoted name and a colon.
const MAX_BYTES: usize = 32;

/// By the address of the object, which stays while it is here. A place that is taken stays taken.
pub(super) struct Keys<'py>([Option<Key<'py>>; PLACES]);

struct Key<'py> {
    object: Bound<'py, PyString>,
    bytes: [u8; MAX_BYTES],
    len: u8,
}

impl Default for Keys<'_> {
    fn default() -> Self {
        Self([const { None }; PLACES])
    }
}

impl<'py> Keys<'py> {
    /// Appends a comma, the name and a colon.
    #[inline]
    pub(super) fn write(&mut self, name: &Bound<'py, PyString>, out: &mut Out) -> PyResult<()> {
        let address = name.as_ptr() as usize;
        let place = &mut self.0[(address >> 4 ^ address >> 10) % PLACES];
        if let Some(key) = place
            && key.object.is(name)
        {
            *out.space() = key.bytes;
            out.take(usize::from(key.len));
            return Ok(());
        }
        let start = out.len();
        out.push(b',');
        text::write(name.to_str()?, out);
        out.push(b':');
        let written = out.since(start);
        if place.is_none() && written.len() <= MAX_BYTES {
            let mut bytes = [0; MAX_BYTES];
            bytes[..written.len()].copy_from_slice(written);
            *place = Some(Key {
                object: name.clone(),
                bytes,
                len: written.len() as u8,
            });
        }
        Ok(())
    }
}
