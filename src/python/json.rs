//! JSON: from Python's plain objects, written straight into bytes; or what the application has chosen
//! instead.

use std::mem;
use std::sync::{PoisonError, RwLock};

use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::errors::HTTPError;
use super::lock;

/// What the application writes and reads JSON with, if it has said so: one for the process, which serves
/// one application.
static CHOSEN: RwLock<Option<Chosen>> = RwLock::new(None);

struct Chosen {
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
}

/// From now on `json.dumps` writes what handlers answer, and `json.loads` reads what they get. None: what
/// is here does.
pub(super) fn choose(json: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let chosen = json.map(|json| -> PyResult<_> {
        let [dumps, loads] = [json.getattr("dumps")?, json.getattr("loads")?].map(Bound::unbind);
        Ok(Chosen { dumps, loads })
    });
    let chosen = chosen.transpose()?;
    let mut place = CHOSEN.write().unwrap_or_else(PoisonError::into_inner);
    let before = mem::replace(&mut *place, chosen);
    drop(place);
    drop(before); // which may run Python
    Ok(())
}

/// One of the two. The lock is not held while Python runs.
fn chosen(py: Python<'_>, which: fn(&Chosen) -> &Py<PyAny>) -> Option<Bound<'_, PyAny>> {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    chosen.as_ref().map(|chosen| which(chosen).bind(py).clone())
}

/// What a handler answers, as the application writes it.
pub(super) fn answer(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let Some(dumps) = chosen(py, |chosen| &chosen.dumps) else {
        let mut out = Vec::with_capacity(64);
        write(value, &mut out)?;
        return Ok(out);
    };
    let named = PyDict::new(py);
    let plain = PLAIN.import(py, "fanbus.models", "plain")?;
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
        "The dumps of Fanbus(json=...) gave {kind}. It is to give str or bytes."
    )))
}

/// `_core.answer_json`: the same for Python.
#[pyfunction]
pub(super) fn answer_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(value.py(), &answer(value)?))
}

/// What a client has sent, as the application reads it. `HTTPError` 400 if it is not JSON.
pub(super) fn read<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let loads = match chosen(py, |chosen| &chosen.loads) {
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

/// Nesting deeper than this is refused, as Python's own encoder does with its recursion limit.
const MOST_LEVELS: usize = 512;

/// Appends `value` to `out`, as `json.dumps(value, separators=(",", ":"), ensure_ascii=False)`
/// writes it; NaN and infinities, which JSON does not have, are errors.
pub(super) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    write_level(value, out, 0)
}

fn write_level(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, level: usize) -> PyResult<()> {
    if write_leaf(value, out) {
        return Ok(());
    }
    write_rest(value, out, level)
}

/// What most values are. False: it is something else, or wants more care; nothing has been written.
/// No Python runs in here.
fn write_leaf(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    // The type is asked for first: a cast that fails makes an error.
    if value.is_instance_of::<PyString>() {
        let text = value.cast::<PyString>().ok();
        let Some(text) = text.and_then(|text| text.to_str().ok()) else {
            return false;
        };
        write_text(text, out);
    } else if value.is_exact_instance_of::<PyBool>() {
        if value.is(PyBool::new(value.py(), true)) {
            out.extend_from_slice(b"true");
        } else {
            out.extend_from_slice(b"false");
        }
    } else if value.is_instance_of::<PyInt>() {
        let Ok(number) = value.extract::<i64>() else {
            return false;
        };
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    } else if value.is_none() {
        out.extend_from_slice(b"null");
    } else if value.is_exact_instance_of::<PyFloat>() {
        let Some(number) = value
            .extract()
            .ok()
            .filter(|&number| is_written_alike(number))
        else {
            return false;
        };
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        return false;
    }
    true
}

/// What has something in it, and what is rare.
fn write_rest(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, level: usize) -> PyResult<()> {
    if level > MOST_LEVELS {
        return Err(PyRecursionError::new_err(
            "JSON nested too deeply, or containing itself.",
        ));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        if lock::may_be_missing(value.py()) {
            // As it is at one moment: another thread may change it meanwhile.
            write_dict(&dict.copy()?, out, level)
        } else {
            write_dict(dict, out, level)
        }
    } else if let Ok(list) = value.cast::<PyList>() {
        write_items(list.iter(), out, level)
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        write_items(tuple.iter(), out, level)
    } else if let Ok(number) = value.cast::<PyFloat>() {
        write_float(number, out)
    } else if value.is_instance_of::<PyInt>() {
        write_long(value, out)
    } else if let Ok(text) = value.cast::<PyString>() {
        write_text(text.to_str()?, out);
        Ok(())
    } else {
        write_other(value, out, level)
    }
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
    let len = dict.len();
    let mut items = dict.iter();
    out.push(b'{');
    for at in 0..len {
        let Some((key, value)) = items.next() else {
            break;
        };
        if at > 0 {
            out.push(b',');
        }
        if key.is_instance_of::<PyString>() {
            write_text(key.cast::<PyString>()?.to_str()?, out);
        } else {
            write_key(&key, out)?;
        }
        out.push(b':');
        if !write_leaf(&value, out) {
            write_rest(&value, out, level + 1)?;
            // Python may have run, and have changed the dict, at which the iterator would panic.
            if dict.len() != len {
                return Err(PyRuntimeError::new_err(
                    "A dict changed its size while it was written as JSON.",
                ));
            }
        }
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

/// An integer that has more than 64 bits.
fn write_long(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    // int's own text, also for a subclass that prints itself otherwise.
    let text = value
        .py()
        .get_type::<PyInt>()
        .call_method1("__repr__", (value,))?;
    out.extend_from_slice(text.cast::<PyString>()?.to_str()?.as_bytes());
    Ok(())
}

/// Is the shortest text that reads back as the same number Python's too? Beyond these Python writes an
/// exponent, and in its own way.
fn is_written_alike(number: f64) -> bool {
    number == 0.0 || (1e-4..1e16).contains(&number.abs())
}

fn write_float(value: &Bound<'_, PyFloat>, out: &mut Vec<u8>) -> PyResult<()> {
    let number = value.value();
    if !number.is_finite() {
        return Err(PyValueError::new_err(format!(
            "JSON has no {number}: send null or text instead"
        )));
    }
    if is_written_alike(number) {
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

/// It is appended as it is, which is nearly always right, and looked at meanwhile. What is short, as most
/// names and values are, is written as whole words, and then cut off: to call a function that copies
/// takes longer.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let start = out.len();
    let found = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            out.extend_from_slice(first);
            out.truncate(start + bytes.len() - 8);
            out.extend_from_slice(last);
            marks(u64::from_le_bytes(*first)) | marks(u64::from_le_bytes(*last))
        }
        (_, Some(last)) => {
            out.extend_from_slice(bytes);
            let (words, _) = bytes.as_chunks::<8>();
            // All of them, without a way out before the end: so the compiler takes several at a time.
            words
                .iter()
                .fold(marks(u64::from_le_bytes(*last)), |found, word| {
                    found | marks(u64::from_le_bytes(*word))
                })
        }
        _ => {
            let word = short_word(bytes);
            out.extend_from_slice(&word.to_le_bytes());
            out.truncate(start + bytes.len());
            marks(word)
        }
    };
    if found != 0 {
        out.truncate(start);
        write_escaped(bytes, out);
    }
    out.push(b'"');
}

/// Fewer than eight bytes, the first one lowest, and spaces behind them.
fn short_word(bytes: &[u8]) -> u64 {
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    let len = bytes.len();
    let part = |part: [u8; 4]| u64::from(u32::from_le_bytes(part));
    let at = |at: usize| u64::from(bytes[at]) << (8 * at);
    let word = match (bytes.first_chunk(), bytes.last_chunk(), len) {
        (Some(first), Some(last), _) => part(*first) | part(*last) << (8 * (len - 4)),
        (_, _, 0) => return SPACES,
        _ => at(0) | at(len / 2) | at(len - 1),
    };
    word | SPACES << (8 * len)
}

/// Not 0 if one of its bytes is to be escaped.
fn marks(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = EACH << 7;
    // A subtraction sets the highest bit of a byte that is below what is taken from it. It borrows
    // from the next byte, which may be marked too, but only where one is marked.
    let below = |word: u64, limit: u64| word.wrapping_sub(EACH * limit) & !word;
    let is_byte = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (below(word, 0x20) | is_byte(b'"') | is_byte(b'\\')) & HIGHEST
}

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !is_escaped(byte) {
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
}
