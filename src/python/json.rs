//! JSON from Python's plain objects, written straight into bytes.

use pyo3::exceptions::{PyRecursionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::lock;

/// Nesting deeper than this is refused, as Python's own encoder does with its recursion limit.
const MOST_LEVELS: usize = 512;

/// Appends `value` to `out`, as `json.dumps(value, separators=(",", ":"), ensure_ascii=False)`
/// writes it; NaN and infinities, which JSON does not have, are errors.
pub(super) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    write_level(value, out, 0)
}

fn write_level(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, level: usize) -> PyResult<()> {
    if level > MOST_LEVELS {
        return Err(PyRecursionError::new_err(
            "JSON nested too deeply, or containing itself.",
        ));
    }
    if let Ok(text) = value.cast::<PyString>() {
        write_text(text.to_str()?, out);
    } else if value.is_none() {
        out.extend_from_slice(b"null");
    } else if let Ok(boolean) = value.cast::<PyBool>() {
        out.extend_from_slice(if boolean.is_true() { b"true" } else { b"false" });
    } else if value.is_instance_of::<PyInt>() {
        write_integer(value, out)?;
    } else if let Ok(number) = value.cast::<PyFloat>() {
        write_float(value, number.value(), out)?;
    } else if let Ok(dict) = value.cast::<PyDict>() {
        if lock::may_be_missing(value.py()) {
            // As it is at one moment: another thread may change it meanwhile.
            write_dict(&dict.copy()?, out, level)?;
        } else {
            write_dict(dict, out, level)?;
        }
    } else if let Ok(list) = value.cast::<PyList>() {
        write_items(list.iter(), out, level)?;
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        write_items(tuple.iter(), out, level)?;
    } else {
        return write_other(value, out, level);
    }
    Ok(())
}

/// What plain JSON has no word for, as dates, UUIDs and models: `fanbus.models` has.
fn write_other(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, level: usize) -> PyResult<()> {
    let models = value.py().import("fanbus.models")?;
    let simpler = models.getattr("simpler")?.call1((value,))?;
    match simpler.cast::<PyBytes>() {
        Ok(json) => out.extend_from_slice(json.as_bytes()),
        Err(_) => write_level(&simpler, out, level + 1)?,
    }
    Ok(())
}

/// `_core.to_json`: the same for Python.
#[pyfunction]
pub(super) fn to_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(64);
    write(value, &mut out)?;
    Ok(PyBytes::new(value.py(), &out))
}

fn write_dict(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, level: usize) -> PyResult<()> {
    out.push(b'{');
    for (at, (key, value)) in dict.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if let Ok(key) = key.cast::<PyString>() {
            write_text(key.to_str()?, out);
        } else {
            write_key(&key, out)?;
        }
        out.push(b':');
        write_level(&value, out, level + 1)?;
    }
    out.push(b'}');
    Ok(())
}

/// Keys that are no text become text, as in Python's encoder.
fn write_key(key: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let plain = key.is_none()
        || key.is_instance_of::<PyBool>()
        || key.is_instance_of::<PyInt>()
        || key.is_instance_of::<PyFloat>();
    if !plain {
        let kind = key.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "keys must be str, int, float, bool or None, not {kind}"
        )));
    }
    out.push(b'"');
    write_level(key, out, 0)?;
    out.push(b'"');
    Ok(())
}

fn write_items<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    level: usize,
) -> PyResult<()> {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_level(&item, out, level + 1)?;
    }
    out.push(b']');
    Ok(())
}

fn write_integer(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(number) = value.extract::<i64>() {
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        return Ok(());
    }
    // int's own text, also for a subclass that prints itself otherwise.
    let text = value
        .py()
        .get_type::<PyInt>()
        .call_method1("__repr__", (value,))?;
    out.extend_from_slice(text.cast::<PyString>()?.to_str()?.as_bytes());
    Ok(())
}

fn write_float(value: &Bound<'_, PyAny>, number: f64, out: &mut Vec<u8>) -> PyResult<()> {
    if !number.is_finite() {
        return Err(PyValueError::new_err(format!(
            "JSON has no {number}: send null or text instead"
        )));
    }
    // The shortest text that reads back as the same number, which is Python's too; but beyond these
    // Python writes an exponent, and in its own way.
    if number == 0.0 || (1e-4..1e16).contains(&number.abs()) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        return Ok(());
    }
    let text = value
        .py()
        .get_type::<PyFloat>()
        .call_method1("__repr__", (value,))?;
    out.extend_from_slice(text.cast::<PyString>()?.to_str()?.as_bytes());
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}
