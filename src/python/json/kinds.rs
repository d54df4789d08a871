//! The table of types that JSON cannot hold, and how their values are written.
//!
//! `fanbus.parameters.models.way` decides it for a type. The answer is cached here, so that a value costs no Python.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType, PyWeakrefMethods, PyWeakrefReference};

use super::models::Models;
use super::out::Out;
use super::text;

/// How values of one type are written.
#[derive(Clone)]
pub(super) enum Way {
    Date,
    DateTime,
    Time,
    Delta,
    /// As the result of their `isoformat()`: subclasses of dates and times.
    Iso,
    Uuid,
    /// As the result of `str()`.
    Text,
    /// As their `_value_`.
    Enum,
    /// As their elements, in any order.
    Set,
    /// As their fields.
    Dataclass(Arc<[Field]>),
    /// By their own library, to bytes.
    Models(Arc<Models>),
    /// A number of numpy, and its truth value.
    Int,
    Float,
    Bool,
    /// As `dict()` reads them.
    Mapping,
    /// As the mapping of their columns: rows of `SQLAlchemy`.
    Row,
    /// As the plain value that `fanbus.parameters.models.plain` makes of them, if it can.
    Other,
}

/// A field of a dataclass.
pub(super) struct Field {
    pub name: Py<PyString>,
    /// A comma, the name as JSON, and a colon.
    pub key: Box<[u8]>,
}

/// Types that are cached. Above it, those that no longer exist are removed, and no more are added.
const MAX_TYPES: usize = 1024;

struct Known {
    kind: Py<PyWeakrefReference>,
    way: Way,
}

/// By the type's address. The weak reference says whether it is still the same type.
static KNOWN: Mutex<Option<HashMap<usize, Known, foldhash::fast::FixedState>>> = Mutex::new(None);

/// How values of this type are written.
pub(super) fn way(kind: &Bound<'_, PyType>) -> PyResult<Way> {
    let py = kind.py();
    let address = kind.as_ptr() as usize;
    let found = {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.as_ref().and_then(|known| known.get(&address));
        found.map(|found| (found.kind.clone_ref(py), found.way.clone()))
    };
    if let Some((reference, way)) = found
        && reference.bind(py).upgrade().is_some_and(|it| it.is(kind))
    {
        return Ok(way);
    }
    let way = find_out(kind)?;
    let new = Known {
        kind: PyWeakrefReference::new(kind)?.unbind(),
        way: way.clone(),
    };
    let gone = remember(py, address, new);
    drop(gone); // without the lock: it may run Python
    Ok(way)
}

/// Returns the entries that were removed.
fn remember(py: Python<'_>, address: usize, new: Known) -> Vec<Known> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let mut gone = Vec::new();
    if known.len() >= MAX_TYPES {
        let is_gone = |known: &mut Known| known.kind.bind(py).upgrade().is_none();
        gone.extend(
            known
                .extract_if(|_, known| is_gone(known))
                .map(|(_, known)| known),
        );
    }
    if known.len() < MAX_TYPES {
        gone.extend(known.insert(address, new));
    } else {
        gone.push(new);
    }
    gone
}

fn find_out(kind: &Bound<'_, PyType>) -> PyResult<Way> {
    let models = kind.py().import("fanbus.parameters.models")?;
    let named = models.getattr("way")?.call1((kind,))?;
    Ok(match named.cast::<PyString>()?.to_str()? {
        "date" => Way::Date,
        "datetime" => Way::DateTime,
        "time" => Way::Time,
        "timedelta" => Way::Delta,
        "isoformat" => Way::Iso,
        "uuid" => Way::Uuid,
        "str" => Way::Text,
        "enum" => Way::Enum,
        "set" => Way::Set,
        "dataclass" => Way::Dataclass(fields(&models, kind)?),
        "pydantic" => Way::Models(Arc::new(Models::of_pydantic())),
        "msgspec" => Way::Models(Arc::new(Models::of_msgspec(kind.py())?)),
        "int" => Way::Int,
        "float" => Way::Float,
        "bool" => Way::Bool,
        "mapping" => Way::Mapping,
        "row" => Way::Row,
        "other" => Way::Other,
        unknown => {
            return Err(PyRuntimeError::new_err(format!(
                "way() returned {unknown:?}."
            )));
        }
    })
}

fn fields(models: &Bound<'_, PyModule>, kind: &Bound<'_, PyType>) -> PyResult<Arc<[Field]>> {
    let names = models.getattr("field_names")?.call1((kind,))?;
    let names: Vec<Bound<'_, PyString>> = names.extract()?;
    let field = |name: Bound<'_, PyString>| {
        let mut key = Out::new();
        key.push(b',');
        text::write(name.to_str()?, &mut key);
        key.push(b':');
        Ok(Field {
            key: key.into_bytes().into(),
            name: name.unbind(),
        })
    };
    names.into_iter().map(field).collect()
}
