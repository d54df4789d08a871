//! The encoder that writes Python's objects as JSON.

#![allow(unsafe_code)] // Keys and values are borrowed from their dict or list: a reference to each costs more.

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use super::super::lock;
use super::containers::{Pairs, element, small};
use super::keys::Keys;
use super::kinds::{self, Field, Way};
use super::out::Out;
use super::time::{self, Zone};
use super::{number, text};

/// Nesting deeper than this is refused, as Python's own encoder does with its recursion limit.
const MAX_LEVELS: usize = 512;

/// In lists of fewer elements, no names of dicts come again often enough to be remembered.
const MANY: usize = 8;

/// Types whose kinds one encoding has in its own cache; a value may have more types.
const MOST_AT_HAND: usize = 8;

/// As `json.dumps(value, separators=(",", ":"), ensure_ascii=False)` writes it. NaN and infinities, which
/// JSON does not have, are errors.
pub(super) fn encode(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut encoder = Encoder {
        out: Out::new(),
        keys: None,
        ways: Vec::new(),
        zone: Zone::default(),
        is_shared: lock::may_be_missing(value.py()),
    };
    encoder.write(value, 0)?;
    Ok(encoder.out.into_bytes())
}

struct Encoder<'py> {
    out: Out,
    /// Names of dicts that were written before, if there is a list of some length.
    keys: Option<Box<Keys<'py>>>,
    /// Types that were met, and how they are written.
    ways: Vec<(Bound<'py, PyType>, Way)>,
    /// The offset of the last time that had one.
    zone: Zone<'py>,
    /// Other threads may change dicts and lists while they are written: a copy is written, as they were at
    /// one moment.
    is_shared: bool,
}

impl<'py> Encoder<'py> {
    fn write(&mut self, value: &Bound<'py, PyAny>, level: usize) -> PyResult<()> {
        if self.write_leaf(value)? {
            return Ok(());
        }
        self.write_rest(value, level)
    }

    /// Writes a value of a common, simple type. False for every other value: then nothing has been written, no Python has
    /// run, and no object was made.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call for each value costs what the value does"
    )]
    fn write_leaf(&mut self, value: &Bound<'py, PyAny>) -> PyResult<bool> {
        let (py, kind, out) = (value.py(), value.get_type_ptr(), &mut self.out);
        // Addresses are compared: `is_exact_instance_of` counts a reference to each type.
        if kind == PyString::type_object_raw(py) {
            text::write(value.cast::<PyString>()?.to_str()?, out);
        } else if kind == PyInt::type_object_raw(py) {
            let Some(number) = small(value.cast()?) else {
                return Ok(false);
            };
            number::write_small(number, out);
        } else if value.is_none() {
            text::write_word(*b"null    ", 4, out);
        } else if kind == PyBool::type_object_raw(py) {
            text::write_bool(value.is(PyBool::new(py, true)), out);
        } else if kind == PyFloat::type_object_raw(py) {
            return Ok(number::write_usual(value.cast::<PyFloat>()?.value(), out));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Writes containers and values of rare types.
    fn write_rest(&mut self, value: &Bound<'py, PyAny>, level: usize) -> PyResult<()> {
        if level > MAX_LEVELS {
            return Err(too_deep());
        }
        // The type is read first: a cast that fails makes an error.
        if value.is_instance_of::<PyDict>() {
            self.write_dict(value.cast()?, level)
        } else if value.is_instance_of::<PyList>() {
            self.write_list(value.cast()?, level)
        } else {
            self.write_rare(value, level)
        }
    }

    fn write_rare(&mut self, value: &Bound<'py, PyAny>, level: usize) -> PyResult<()> {
        if value.is_instance_of::<PyTuple>() {
            self.write_items(value.cast::<PyTuple>()?.iter(), level)
        } else if value.is_instance_of::<PyString>() {
            text::write(value.cast::<PyString>()?.to_str()?, &mut self.out);
            Ok(())
        } else if value.is_instance_of::<PyInt>() {
            number::write_int(value.cast()?, &mut self.out)
        } else if value.is_instance_of::<PyFloat>() {
            let number = value.cast::<PyFloat>()?.value();
            number::write_float(number, value.py(), &mut self.out)
        } else {
            let way = self.way(value)?;
            self.write_other(value, &way, level)
        }
    }

    fn write_dict(&mut self, dict: &Bound<'py, PyDict>, level: usize) -> PyResult<()> {
        if self.is_shared {
            self.write_pairs(&dict.copy()?, level)
        } else {
            self.write_pairs(dict, level)
        }
    }

    /// Writes a dict that no other thread changes.
    fn write_pairs(&mut self, dict: &Bound<'py, PyDict>, level: usize) -> PyResult<()> {
        let (len, start) = (dict.len(), self.out.len());
        let mut pairs = Pairs::of(dict);
        // Each pair has a comma before it. The first one becomes the brace.
        for _ in 0..len {
            // SAFETY: a value that is not a leaf gets a reference of its own before it is used, and after an
            // error neither is used. Objects that other threads may change were copied.
            let Some((key, value)) = (unsafe { pairs.next() }) else {
                break;
            };
            if key.get_type_ptr() == PyString::type_object_raw(key.py()) {
                self.write_name(&*key.cast::<PyString>()?)?;
            } else {
                // Python may run, and have the dict change.
                let (key, value) = (key.to_owned(), value.to_owned());
                self.write_key(&key)?;
                self.write(&value, level + 1)?;
                has_size(dict, len)?;
                continue;
            }
            if !self.write_leaf(&value)? {
                self.write_rest(&value.to_owned(), level + 1)?;
                has_size(dict, len)?;
            }
        }
        self.enclose(start, [b'{', b'}']);
        Ok(())
    }

    /// Puts brackets around the text from `start` on.
    #[inline]
    fn enclose(&mut self, start: usize, [open, close]: [u8; 2]) {
        if self.out.len() == start {
            self.out.push(open);
        } else {
            self.out.since(start)[0] = open;
        }
        self.out.push(close);
    }

    /// A comma, the name of a pair, and a colon.
    #[inline]
    fn write_name(&mut self, name: &Bound<'py, PyString>) -> PyResult<()> {
        if let Some(keys) = &mut self.keys {
            return keys.write(name, &mut self.out);
        }
        self.out.push(b',');
        text::write(name.to_str()?, &mut self.out);
        self.out.push(b':');
        Ok(())
    }

    /// The same for a key that is not a plain text. It becomes one as in Python's encoder.
    fn write_key(&mut self, key: &Bound<'py, PyAny>) -> PyResult<()> {
        self.out.push(b',');
        if let Ok(text) = key.cast::<PyString>() {
            text::write(text.to_str()?, &mut self.out);
        } else {
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
            self.out.push(b'"');
            self.write(key, 0)?;
            self.out.push(b'"');
        }
        self.out.push(b':');
        Ok(())
    }

    fn write_list(&mut self, list: &Bound<'py, PyList>, level: usize) -> PyResult<()> {
        if list.len() >= MANY && self.keys.is_none() {
            self.keys = Some(Box::default());
        }
        if self.is_shared {
            self.write_elements(&list.get_slice(0, list.len()), level)
        } else {
            self.write_elements(list, level)
        }
    }

    /// Writes a list that no other thread changes.
    fn write_elements(&mut self, list: &Bound<'py, PyList>, level: usize) -> PyResult<()> {
        if self.write_models(list)? {
            return Ok(());
        }
        let start = self.out.len();
        for at in 0..list.len() {
            // SAFETY: a value that is not a leaf gets a reference of its own before it is used, and after an
            // error it is not used. Objects that other threads may change were copied.
            let Some(item) = (unsafe { element(list, at) }) else {
                break; // Python has run, and has made the list shorter
            };
            self.out.push(b',');
            if !self.write_leaf(&item)? {
                self.write_rest(&item.to_owned(), level + 1)?;
            }
        }
        self.enclose(start, [b'[', b']']);
        Ok(())
    }

    fn write_items(
        &mut self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        level: usize,
    ) -> PyResult<()> {
        let start = self.out.len();
        for item in items {
            self.out.push(b',');
            self.write(&item, level + 1)?;
        }
        self.enclose(start, [b'[', b']']);
        Ok(())
    }

    /// Writes a list in one call if all its elements are models of one type. False for every other list.
    fn write_models(&mut self, list: &Bound<'py, PyList>) -> PyResult<bool> {
        let Some(first) = list.iter().next() else {
            return Ok(false);
        };
        let kind = first.get_type();
        if list.len() < 2 || is_plain(&first) {
            return Ok(false);
        }
        let Way::Models(models) = self.way(&first)? else {
            return Ok(false);
        };
        if list.iter().any(|each| !each.get_type().is(&kind)) {
            return Ok(false);
        }
        models.write_list(list, &mut self.out)
    }

    fn way(&mut self, value: &Bound<'py, PyAny>) -> PyResult<Way> {
        let address = value.get_type_ptr();
        let known = self
            .ways
            .iter()
            .find(|(kind, _)| kind.as_type_ptr() == address);
        if let Some((_, way)) = known {
            return Ok(way.clone());
        }
        let kind = value.get_type();
        let way = kinds::way(&kind)?;
        if self.ways.len() < MOST_AT_HAND {
            self.ways.push((kind, way.clone()));
        }
        Ok(way)
    }

    /// Writes a value of a type that JSON does not have.
    fn write_other(&mut self, value: &Bound<'py, PyAny>, way: &Way, level: usize) -> PyResult<()> {
        let py = value.py();
        let out = &mut self.out;
        match way {
            Way::Date => time::write_date(value.cast()?, out),
            Way::DateTime => time::write_datetime(value.cast()?, &mut self.zone, out)?,
            Way::Time => time::write_time(value.cast()?, &mut self.zone, out)?,
            Way::Delta => time::write_delta(value.cast()?, out),
            Way::Iso => {
                let text = value.call_method0(intern!(py, "isoformat"))?;
                self.write(&text, level + 1)?;
            }
            Way::Uuid => text::write_uuid(value.getattr(intern!(py, "int"))?.extract()?, out),
            Way::Text => text::write(value.str()?.to_str()?, out),
            Way::Enum => {
                let inside = value.getattr(intern!(py, "_value_"))?;
                if inside.is_instance_of::<PyBytes>() {
                    return self.write_simpler(value, level);
                }
                self.write(&inside, level + 1)?;
            }
            Way::Set => self.write_items(
                value.try_iter()?.collect::<PyResult<Vec<_>>>()?.into_iter(),
                level,
            )?,
            Way::Dataclass(fields) => self.write_fields(value, fields, level)?,
            Way::Models(models) => models.write(value, out)?,
            Way::Int => {
                if let Ok(number) = value.extract::<i64>() {
                    number::write_small(number, out);
                } else {
                    let number = value.call_method0(intern!(py, "__index__"))?;
                    number::write_int(number.cast()?, out)?;
                }
            }
            Way::Float => number::write_float(value.extract()?, py, out)?,
            Way::Bool => text::write_bool(value.is_truthy()?, out),
            Way::Mapping => {
                let dict = py.get_type::<PyDict>().call1((value,))?;
                self.write_dict(dict.cast()?, level)?;
            }
            Way::Row => self.write_dict(&row(value)?, level)?,
            Way::Other => self.write_simpler(value, level)?,
        }
        Ok(())
    }

    fn write_fields(
        &mut self,
        value: &Bound<'py, PyAny>,
        fields: &[Field],
        level: usize,
    ) -> PyResult<()> {
        let start = self.out.len();
        for field in fields {
            let inside = value.getattr(&field.name)?;
            self.out.extend(&field.key);
            self.write(&inside, level + 1)?;
        }
        self.enclose(start, [b'{', b'}']);
        Ok(())
    }

    /// Writes the plain value that `fanbus.parameters.models` makes of it.
    fn write_simpler(&mut self, value: &Bound<'py, PyAny>, level: usize) -> PyResult<()> {
        let models = value.py().import("fanbus.parameters.models")?;
        let simpler = models.getattr("plain")?.call1((value,))?;
        self.write(&simpler, level + 1)
    }
}

#[cold]
fn too_deep() -> PyErr {
    PyRecursionError::new_err("JSON nested too deeply, or containing itself.")
}

/// Python has run: it may have changed the dict that is being written.
fn has_size(dict: &Bound<'_, PyDict>, len: usize) -> PyResult<()> {
    if dict.len() == len {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "A dict changed its size while it was written as JSON.",
    ))
}

/// Is it of a type that JSON has? Then it is not a model.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyInt>()
        || value.is_instance_of::<PyFloat>()
        || value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_none()
}

/// The columns of a row of `SQLAlchemy`, by name.
fn row<'py>(row: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = row.py();
    let names = row.getattr(intern!(py, "_fields"))?;
    let values = py.get_type::<PyTuple>().call1((row,))?;
    if names.len()? != values.len()? {
        // A column without a name. The mapping takes longer.
        let mapping = row.getattr(intern!(py, "_mapping"))?;
        let dict = py.get_type::<PyDict>().call1((mapping,))?;
        return Ok(dict.cast_into()?);
    }
    let dict = PyDict::new(py);
    let (names, values) = (names.cast::<PyTuple>()?, values.cast::<PyTuple>()?);
    for (name, value) in names.iter_borrowed().zip(values.iter_borrowed()) {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
