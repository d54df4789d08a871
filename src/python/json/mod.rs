//! The JSON codec: it writes Python's objects straight into bytes, unless the application has a codec of its own.

mod containers;
mod encoder;
mod keys;
mod kinds;
mod models;
mod number;
mod out;
mod text;
mod time;

use std::mem;
use std::sync::{PoisonError, RwLock};

use pyo3::exceptions::{PyRecursionError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::errors::HTTPError;

/// The codec of the application, if it has one: one for the process, which serves one application.
static CODEC: RwLock<Option<JsonCodec>> = RwLock::new(None);

struct JsonCodec {
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
}

/// From now on `json.dumps` writes responses, and `json.loads` reads request bodies. None: the codec of Fanbus does.
pub(super) fn set_codec(json: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let codec = json.map(|json| -> PyResult<_> {
        let [dumps, loads] = [json.getattr("dumps")?, json.getattr("loads")?].map(Bound::unbind);
        Ok(JsonCodec { dumps, loads })
    });
    let codec = codec.transpose()?;
    let mut place = CODEC.write().unwrap_or_else(PoisonError::into_inner);
    let before = mem::replace(&mut *place, codec);
    drop(place);
    drop(before); // which may run Python
    Ok(())
}

/// One function of the application's codec. The lock is not held while Python runs.
fn codec(py: Python<'_>, which: fn(&JsonCodec) -> &Py<PyAny>) -> Option<Bound<'_, PyAny>> {
    let codec = CODEC.read().unwrap_or_else(PoisonError::into_inner);
    codec.as_ref().map(|codec| which(codec).bind(py).clone())
}

/// Writes the value of a handler as JSON, with the application's codec.
pub(super) fn answer(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let Some(dumps) = codec(py, |codec| &codec.dumps) else {
        return encoder::encode(value);
    };
    let named = PyDict::new(py);
    let plain = PLAIN.import(py, "fanbus.parameters.models", "plain")?;
    named.set_item(intern!(py, "default"), plain)?;
    let written = dumps.call((value,), Some(&named))?;
    if let Ok(bytes) = written.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if let Ok(text) = written.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes().to_vec());
    }
    let kind = written.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "dumps of Fanbus(json=...) must return str or bytes, got {kind}."
    )))
}

/// `_core.answer_json`: the same for Python.
#[pyfunction]
pub(super) fn answer_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(value.py(), &answer(value)?))
}

/// Reads a request body, with the application's codec. `HTTPError` 400 if it is not JSON.
pub(super) fn read<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let loads = match codec(py, |codec| &codec.loads) {
        Some(loads) => loads,
        None => py.import("json")?.getattr("loads")?,
    };
    loads.call1((text,)).map_err(|error| {
        let is_clients = error.is_instance_of::<PyValueError>(py)
            || error.is_instance_of::<PyRecursionError>(py);
        if !is_clients {
            return error;
        }
        let detail = format!("The body is not valid JSON: {}", error.value(py));
        HTTPError::new_err((400, detail))
    })
}

/// `_core.to_json`: writes with the encoder of Fanbus, whatever codec the application has.
#[pyfunction]
pub(super) fn to_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(value.py(), &encoder::encode(value)?))
}
