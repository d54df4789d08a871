//! `_core.MultiDict`: the mapping that shows headers and query parameters, where a name may have several values.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::errors::MissingError;

/// A read-only mapping of names to their first values; `get_all` gives every one.
#[pyclass(frozen, mapping, module = "fanbus._core")]
pub(super) struct MultiDict {
    /// In the order of the request.
    pairs: Vec<(String, String)>,
    /// Names are compared without regard to case, as for headers.
    ignores_case: bool,
}

impl MultiDict {
    /// For headers, whose names are in lower case here.
    pub(super) fn headers(pairs: Vec<(String, String)>) -> Self {
        Self {
            pairs,
            ignores_case: true,
        }
    }

    /// For a query string or a form.
    pub(super) fn form(encoded: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(encoded).into_owned().collect();
        Self {
            pairs,
            ignores_case: false,
        }
    }

    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.pairs.iter().filter(move |(other, _)| {
            other == name || (self.ignores_case && other.eq_ignore_ascii_case(name))
        });
        pairs.map(|(_, value)| value.as_str())
    }

    /// Each name once, in the order of its first value.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in &self.pairs {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    fn firsts(&self) -> Vec<(&str, &str)> {
        let first = |name| (name, self.values(name).next().expect("the name has come"));
        self.names().into_iter().map(first).collect()
    }
}

#[pymethods]
impl MultiDict {
    fn __getitem__<'a>(&'a self, name: &str) -> PyResult<&'a str> {
        self.values(name)
            .next()
            .ok_or_else(|| MissingError::new_err((name.to_owned(),)))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.cast::<PyString>().is_ok_and(|name| {
            name.to_str()
                .is_ok_and(|name| self.values(name).next().is_some())
        })
    }

    fn __len__(&self) -> usize {
        self.names().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyList::new(py, self.names())?.try_iter()?.into_any())
    }

    /// The first value of `name`, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn get(&self, py: Python<'_>, name: &str, default: Option<Py<PyAny>>) -> Py<PyAny> {
        match self.values(name).next() {
            Some(value) => PyString::new(py, value).into_any().unbind(),
            None => default.unwrap_or_else(|| py.None()),
        }
    }

    /// Every value of `name`, in the order of the request.
    fn get_all<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.values(name).collect()
    }

    fn keys(&self) -> Vec<&str> {
        self.names()
    }

    #[pyo3(name = "values")]
    fn first_values(&self) -> Vec<&str> {
        self.firsts().into_iter().map(|(_, value)| value).collect()
    }

    /// Names with their first values.
    fn items(&self) -> Vec<(&str, &str)> {
        self.firsts()
    }

    /// Every name and value, in the order of the request.
    fn pairs(&self) -> Vec<(&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        match other.cast::<Self>() {
            Ok(other) => other.get().pairs == self.pairs,
            Err(_) => other
                .extract::<std::collections::HashMap<String, String>>()
                .is_ok_and(|other| other == self.firsts().into_iter().map(own).collect()),
        }
    }

    fn __repr__(&self) -> String {
        let pairs: Vec<String> = self
            .firsts()
            .iter()
            .map(|(name, value)| format!("{name:?}: {value:?}"))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
