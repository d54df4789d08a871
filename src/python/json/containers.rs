//! The keys, values and elements of dicts and lists, without a reference count for each: most are written
//! before anything can free them.

#![allow(unsafe_code)] // pyo3 counts a reference to each key and value.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList};

/// The pairs of a dict.
pub(super) struct Pairs<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    position: ffi::Py_ssize_t,
}

/// A key and a value.
type Pair<'a, 'py> = (Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>);

impl<'a, 'py> Pairs<'a, 'py> {
    pub(super) fn of(dict: &'a Bound<'py, PyDict>) -> Self {
        Self { dict, position: 0 }
    }

    /// The next pair, in the dict's order. It may be called after the dict has changed.
    ///
    /// # Safety
    ///
    /// The pair is not used once Python may have run, or may have made an object that its garbage
    /// collector knows. Nor does another thread change the dict.
    #[inline]
    pub(super) unsafe fn next(&mut self) -> Option<Pair<'a, 'py>> {
        let (dict, py) = (self.dict.as_ptr(), self.dict.py());
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: it is a dict, and the three places are ours. If there is a pair, both are objects,
        // which the dict holds as long as the caller promises.
        unsafe {
            if ffi::PyDict_Next(dict, &raw mut self.position, &raw mut key, &raw mut value) == 0 {
                return None;
            }
            Some((Borrowed::from_ptr(py, key), Borrowed::from_ptr(py, value)))
        }
    }
}

/// The element of a list, if it has so many.
///
/// # Safety
///
/// As for `Pairs::next`.
#[inline]
pub(super) unsafe fn element<'a, 'py>(
    list: &'a Bound<'py, PyList>,
    at: usize,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: it is a list, and has so many elements, which it holds as long as the caller promises.
    (at < list.len()).then(|| unsafe {
        let item = ffi::PyList_GET_ITEM(list.as_ptr(), at as ffi::Py_ssize_t);
        Borrowed::from_ptr(list.py(), item)
    })
}

/// An integer of 64 bits. None: it has more. No error is made of that.
#[inline]
pub(super) fn small(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: it is an integer, of which this makes no object and runs nothing.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(number)
}
