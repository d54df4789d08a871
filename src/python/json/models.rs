//! The models of pydantic and msgspec, which their own libraries write: one at a time, or a list of one
//! type in one call.

use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::out::Out;

/// The writer of the values of one type.
pub(super) enum Models {
    /// A type of pydantic has its serializer itself. It may get another one, when it is rebuilt.
    Pydantic(Mutex<Option<Lists>>),
    /// `encode` of an encoder of msgspec.
    Msgspec(Py<PyAny>),
}

/// The writer of lists of one type.
pub(super) struct Lists {
    /// The serializer that the type had when this was made.
    of: Py<PyAny>,
    /// `to_json` of one for lists. None: each is written by itself.
    write: Option<Py<PyAny>>,
}

impl Models {
    pub(super) fn of_pydantic() -> Self {
        Self::Pydantic(Mutex::new(None))
    }

    pub(super) fn of_msgspec(py: Python<'_>) -> PyResult<Self> {
        static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let encode = ENCODE.get_or_try_init(py, || {
            let models = py.import("fanbus.parameters.models")?;
            Ok::<_, PyErr>(models.getattr("msgspec_encode")?.call0()?.unbind())
        })?;
        Ok(Self::Msgspec(encode.clone_ref(py)))
    }

    /// Appends one.
    pub(super) fn write(&self, value: &Bound<'_, PyAny>, out: &mut Out) -> PyResult<()> {
        let py = value.py();
        match self {
            Self::Pydantic(_) => {
                let serializer = serializer(value)?;
                let name = intern!(py, "to_json");
                append(
                    &serializer.call_method(name, (value,), Some(by_alias(py)?))?,
                    out,
                )
            }
            Self::Msgspec(encode) => append(&encode.bind(py).call1((value,))?, out),
        }
    }

    /// Appends a list of values that have one type. False: it cannot be written in one call, and
    /// nothing was appended.
    pub(super) fn write_list(&self, list: &Bound<'_, PyList>, out: &mut Out) -> PyResult<bool> {
        let py = list.py();
        let written = match self {
            Self::Pydantic(lists) => {
                let Some(write) = list_writer(lists, &list.get_item(0)?)? else {
                    return Ok(false);
                };
                write.call((list,), Some(by_alias(py)?))?
            }
            Self::Msgspec(encode) => encode.bind(py).call1((list,))?,
        };
        append(&written, out)?;
        Ok(true)
    }
}

fn list_writer<'py>(
    lists: &Mutex<Option<Lists>>,
    one: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = one.py();
    let serializer = serializer(one)?;
    let known = {
        let lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
        let lists = lists.as_ref().filter(|lists| lists.of.is(&serializer));
        lists.map(|lists| lists.write.as_ref().map(|write| write.clone_ref(py)))
    };
    if let Some(write) = known {
        return Ok(write.map(|write| write.into_bound(py)));
    }
    let models = py.import("fanbus.parameters.models")?;
    let made = models.getattr("pydantic_lists")?.call1((one.get_type(),))?;
    let write = (!made.is_none()).then_some(made);
    // It may have got another one now, which was built late.
    let new = Lists {
        of: self::serializer(one)?.unbind(),
        write: write.clone().map(Bound::unbind),
    };
    let mut place = lists.lock().unwrap_or_else(PoisonError::into_inner);
    let before = place.replace(new);
    drop(place);
    drop(before); // which may run Python
    Ok(write)
}

fn serializer<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let kind = value.get_type();
    kind.getattr(intern!(value.py(), "__pydantic_serializer__"))
}

/// Fields are written by the names that a client sees.
fn by_alias(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static NAMED: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let named = NAMED.get_or_try_init(py, || {
        let named = PyDict::new(py);
        named.set_item("by_alias", true)?;
        Ok::<_, PyErr>(named.unbind())
    })?;
    Ok(named.bind(py))
}

fn append(written: &Bound<'_, PyAny>, out: &mut Out) -> PyResult<()> {
    out.extend(written.cast::<PyBytes>()?.as_bytes());
    Ok(())
}
