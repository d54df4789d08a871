//! The endpoint that a route leads to: a function of Python, and the arguments that it takes.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::errors::value_error;
use crate::http::path::{PathTemplate, Value};
use crate::http::router::EndpointId;

/// A Python function behind a route.
pub(super) struct Endpoint {
    pub callable: Py<PyAny>,
    pub asynchronous: bool,
    /// The function runs sessions; otherwise it only admits the clients of a turbo route.
    pub runs_sessions: bool,
    /// Topics that a session may be subscribed to.
    pub max_topics: usize,
    pub arguments: Vec<Argument>,
    /// Names of the path's parameters, in its order.
    pub names: Arc<[String]>,
    /// The path as the application declares it.
    pub route: Arc<str>,
    /// The methods, for errors. None for an endpoint that is not a route of the application.
    pub methods: Option<Arc<str>>,
}

/// An argument of a handler.
#[derive(Copy, Clone)]
pub(super) enum Argument {
    /// The request or the WebSocket.
    Subject,
    /// The path's parameter with this number.
    Value(usize),
}

impl Endpoint {
    /// Calls the function with the path's `values` and the `subject`, as far as it takes them; in the `context`, if there
    /// is one.
    pub(super) fn call<'py>(
        &self,
        py: Python<'py>,
        values: &[Value],
        subject: Option<Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let callable = self.callable.bind(py);
        if self.arguments.is_empty() && context.is_none() {
            return callable.call0();
        }
        let mut arguments = Vec::with_capacity(1 + self.arguments.len());
        if context.is_some() {
            arguments.push(callable.clone());
        }
        for argument in &self.arguments {
            arguments.push(match argument {
                Argument::Subject => subject
                    .clone()
                    .expect("a caller with this argument makes it"),
                Argument::Value(at) => to_python(py, &values[*at])?,
            });
        }
        let arguments = PyTuple::new(py, arguments)?;
        let Some(context) = context else {
            return callable.call1(arguments);
        };
        context.call_method1(intern!(py, "run"), arguments)
    }

    /// Does the function take the request or the WebSocket?
    pub(super) fn wants_subject(&self) -> bool {
        self.arguments
            .iter()
            .any(|argument| matches!(argument, Argument::Subject))
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callable: self.callable.clone_ref(py),
            asynchronous: self.asynchronous,
            runs_sessions: self.runs_sessions,
            max_topics: self.max_topics,
            arguments: self.arguments.clone(),
            names: Arc::clone(&self.names),
            route: Arc::clone(&self.route),
            methods: self.methods.clone(),
        }
    }

    /// The name for errors: methods and path, or module and qualified name.
    pub(super) fn label(&self, py: Python<'_>) -> String {
        match &self.methods {
            Some(methods) => format!("{methods} {}", self.route),
            None => label(self.callable.bind(py)),
        }
    }
}

/// Makes a Python object of the value of a path parameter.
pub(super) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Str(text) => text.into_pyobject(py)?.into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => number.into_pyobject(py)?.into_any(),
        Value::Uuid(text) => py
            .import("uuid")?
            .getattr("UUID")?
            .call1((text.as_str(),))?
            .into_any(),
    })
}

fn label(callable: &Bound<'_, PyAny>) -> String {
    let attribute = |name| {
        callable
            .getattr(name)
            .and_then(|value| value.extract::<String>())
    };
    match (attribute("__module__"), attribute("__qualname__")) {
        (Ok(module), Ok(name)) => format!("{module}.{name}"),
        _ => callable.to_string(),
    }
}

/// All functions behind routes, by endpoint.
#[derive(Default)]
pub(super) struct Endpoints {
    pub http: Vec<Endpoint>,
    /// None: a turbo route that admits every client.
    pub websockets: Vec<Option<Endpoint>>,
    /// The hooks of each WebSocket endpoint. None unless it is a turbo route with hooks.
    pub hooks: Vec<Option<Hooks>>,
}

impl Endpoints {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        let endpoint = |endpoint: &Option<Endpoint>| Some(endpoint.as_ref()?.clone_ref(py));
        let hooks = |hooks: &Option<Hooks>| Some(hooks.as_ref()?.clone_ref(py));
        Self {
            http: self.http.iter().map(|it| it.clone_ref(py)).collect(),
            websockets: self.websockets.iter().map(endpoint).collect(),
            hooks: self.hooks.iter().map(hooks).collect(),
        }
    }
}

/// The hooks that observe the sessions of a turbo route.
pub(super) struct Hooks {
    /// `fanbus.routing.session_hooks.Hooks`.
    pub object: Py<PyAny>,
    /// Names of the path's parameters, in its order.
    pub names: Arc<[String]>,
}

impl Hooks {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            object: self.object.clone_ref(py),
            names: Arc::clone(&self.names),
        }
    }
}

/// The kinds of the endpoints, for the I/O thread: does an endpoint run on the event loop?
pub(super) struct EndpointKinds {
    requests: Vec<bool>,
    connects: Vec<bool>,
}

impl EndpointKinds {
    pub(super) fn of(endpoints: &Endpoints) -> Self {
        let is_async = |endpoint: &Endpoint| endpoint.asynchronous;
        let connects = endpoints.websockets.iter();
        Self {
            requests: endpoints.http.iter().map(is_async).collect(),
            connects: connects
                .map(|endpoint| endpoint.as_ref().is_some_and(is_async))
                .collect(),
        }
    }

    pub(super) fn request_is_async(&self, endpoint: EndpointId) -> bool {
        self.requests[endpoint.0 as usize]
    }

    pub(super) fn connect_is_async(&self, endpoint: EndpointId) -> bool {
        self.connects[endpoint.0 as usize]
    }
}

/// Names of the parameters in a path, in its order.
pub(super) fn names(path: &str) -> PyResult<Vec<String>> {
    let template = PathTemplate::parse(path).map_err(value_error)?;
    Ok(template.names().map(str::to_owned).collect())
}

pub(super) fn endpoint(
    path: &str,
    callable: &Bound<'_, PyAny>,
    asynchronous: bool,
    arguments: &[Option<String>],
) -> PyResult<Endpoint> {
    let template = PathTemplate::parse(path).map_err(value_error)?;
    let names: Arc<[String]> = template.names().map(str::to_owned).collect();
    let arguments = arguments
        .iter()
        .map(|argument| match argument {
            None => Ok(Argument::Subject),
            Some(name) => match names.iter().position(|other| other == name) {
                Some(at) => Ok(Argument::Value(at)),
                None => Err(value_error(format!(
                    "{} takes {name:?}, which the path {path:?} does not have.",
                    label(callable)
                ))),
            },
        })
        .collect::<PyResult<_>>()?;
    let callable = callable.clone().unbind();
    Ok(Endpoint {
        callable,
        asynchronous,
        runs_sessions: false,
        max_topics: 0,
        arguments,
        names,
        route: path.into(),
        methods: None,
    })
}
