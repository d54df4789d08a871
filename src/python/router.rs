//! `_core.Router`: routes with the Python functions behind them, made before the fork.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_http::Method;
use actix_http::header::HeaderValue;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::errors::value_error;
use super::options::WebSocketConfig;
use crate::actors::protocol::Accept;
use crate::actors::protocols::echo::Echo;
use crate::actors::protocols::handler::HandlerProtocol;
use crate::actors::protocols::relay::RelayRoute;
use crate::actors::topic::TopicTemplate;
use crate::http::compressor::Level;
use crate::http::cors::{Cors, CorsOptions};
use crate::http::folder::Folder;
use crate::http::host::Hosts;
use crate::http::path::{PathTemplate, Value};
use crate::http::router::{EndpointId, RouteError};
use crate::http::routes::{HttpEndpoint, Routes, Turbo, WebSocketEndpoint};

/// A Python function behind a route.
pub(super) struct Endpoint {
    pub callable: Py<PyAny>,
    pub asynchronous: bool,
    /// It runs sessions; otherwise it only admits the clients of a turbo route.
    pub runs_sessions: bool,
    /// Topics that a session may be subscribed to.
    pub max_topics: usize,
    arguments: Vec<Argument>,
    /// Names of the path's parameters, in its order.
    pub names: Arc<[String]>,
    /// The path, as it was declared.
    pub route: Arc<str>,
    /// The methods that it answers, as errors name it. None: it is no route of an application's.
    methods: Option<Arc<str>>,
}

/// What a handler is called with, in order.
#[derive(Copy, Clone)]
enum Argument {
    /// The request or the WebSocket.
    Subject,
    /// The path's parameter with this number.
    Value(usize),
}

impl Endpoint {
    /// Calls the function with the path's `values` and, where it takes it, the `subject`; in the
    /// `context`, if there is one.
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
                Argument::Subject => subject.clone().expect("it is made for who asks for it"),
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

    /// As errors name it: methods and path, or module and qualified name.
    pub(super) fn label(&self, py: Python<'_>) -> String {
        match &self.methods {
            Some(methods) => format!("{methods} {}", self.route),
            None => label(self.callable.bind(py)),
        }
    }
}

/// A path parameter's value as Python's object.
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
    /// None: a turbo route that asks nobody.
    pub websockets: Vec<Option<Endpoint>>,
    /// Of each WebSocket endpoint: None unless it is a turbo route with hooks.
    pub hooks: Vec<Option<Hooks>>,
}

/// Who is told of a turbo route's sessions.
pub(super) struct Hooks {
    /// `fanbus.routing.session_hooks.Hooks`.
    pub object: Py<PyAny>,
    /// Names of the path's parameters, in its order.
    pub names: Arc<[String]>,
}

/// Which endpoints run on the event loop: all that the I/O thread needs to know.
pub(super) struct EndpointKinds {
    requests: Vec<bool>,
    connects: Vec<bool>,
}

impl EndpointKinds {
    pub(super) fn request_is_async(&self, endpoint: EndpointId) -> bool {
        self.requests[endpoint.0 as usize]
    }

    pub(super) fn connect_is_async(&self, endpoint: EndpointId) -> bool {
        self.connects[endpoint.0 as usize]
    }
}

/// The routes of one application: pure data, made before the fork.
#[pyclass(frozen, module = "fanbus._core")]
#[derive(Default)]
pub(super) struct Router(Mutex<State>);

#[derive(Default)]
struct State {
    routes: Routes,
    endpoints: Endpoints,
    /// Where what is registered was written, for errors; one per endpoint of each kind.
    http_places: Vec<String>,
    websocket_places: Vec<String>,
}

impl Router {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker is made with.
    pub(super) fn parts(
        &self,
        py: Python<'_>,
    ) -> (Arc<Routes>, Arc<Endpoints>, Arc<EndpointKinds>) {
        let state = self.state();
        let http = &state.endpoints.http;
        let websockets = &state.endpoints.websockets;
        let kinds = EndpointKinds {
            requests: http.iter().map(|endpoint| endpoint.asynchronous).collect(),
            connects: websockets
                .iter()
                .map(|endpoint| {
                    endpoint
                        .as_ref()
                        .is_some_and(|endpoint| endpoint.asynchronous)
                })
                .collect(),
        };
        let endpoints = Endpoints {
            http: http.iter().map(|endpoint| endpoint.clone_ref(py)).collect(),
            websockets: websockets
                .iter()
                .map(|endpoint| endpoint.as_ref().map(|endpoint| endpoint.clone_ref(py)))
                .collect(),
            hooks: state
                .endpoints
                .hooks
                .iter()
                .map(|hooks| {
                    hooks.as_ref().map(|hooks| Hooks {
                        object: hooks.object.clone_ref(py),
                        names: Arc::clone(&hooks.names),
                    })
                })
                .collect(),
        };
        (
            Arc::new(state.routes.clone()),
            Arc::new(endpoints),
            Arc::new(kinds),
        )
    }
}

#[pymethods]
impl Router {
    #[new]
    #[pyo3(signature = (*, redirect_slashes, compression, max_body_size))]
    fn new(
        redirect_slashes: bool,
        compression: Option<u8>,
        max_body_size: Option<usize>,
    ) -> PyResult<Self> {
        let level = compression.map(|level| {
            let bad = || {
                value_error(format!(
                    "compression_level must be from 1 to 9, got {level}."
                ))
            };
            Level::new(level).ok_or_else(bad)
        });
        let routes = Routes {
            redirect_slashes,
            compression: level.transpose()?,
            max_body_bytes: max_body_size,
            ..Routes::default()
        };
        Ok(Self(Mutex::new(State {
            routes,
            ..State::default()
        })))
    }

    /// Registers a folder of files: both paths, the second with a parameter for the rest.
    #[pyo3(signature = (paths, root, *, cache_control, precompressed, place))]
    fn add_folder(
        &self,
        py: Python<'_>,
        paths: [String; 2],
        root: PathBuf,
        cache_control: Option<&str>,
        precompressed: bool,
        place: String,
    ) -> PyResult<()> {
        let cache_control = cache_control
            .map(HeaderValue::from_str)
            .transpose()
            .map_err(value_error)?;
        let folder = Arc::new(Folder {
            root,
            cache_control,
            precompressed,
        });
        let state = &mut *self.state();
        for path in paths {
            let template = PathTemplate::parse(&path).map_err(value_error)?;
            let names = template.names().map(str::to_owned).collect();
            let id = EndpointId(state.endpoints.http.len() as u32);
            let added = state.routes.router.add_http(&[Method::GET], &path, id);
            added.map_err(|error| conflict(&error, &place, &state.http_places))?;
            state.routes.http.push(HttpEndpoint {
                wants_request: false,
                max_body_bytes: None,
                streams_body: false,
                folder: Some(Arc::clone(&folder)),
                turbo: None,
            });
            state.endpoints.http.push(Endpoint {
                callable: py.None(), // never called
                asynchronous: false,
                runs_sessions: false,
                max_topics: 0,
                arguments: Vec::new(),
                names,
                route: path.into(),
                methods: None,
            });
            state.http_places.push(place.clone());
        }
        Ok(())
    }

    /// Registers an HTTP handler. `place` is how errors name it.
    /// `turbo`: its answers are kept, for `cache_ttl` seconds.
    #[pyo3(signature = (
        methods, path, handler, *, asynchronous, arguments, place, max_body_size, stream_body = false,
        turbo = false, cache_ttl = None,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, called from one place"
    )]
    fn add_http(
        &self,
        methods: Vec<String>,
        path: &str,
        handler: Bound<'_, PyAny>,
        asynchronous: bool,
        arguments: Vec<Option<String>>,
        place: String,
        max_body_size: Option<usize>,
        stream_body: bool,
        turbo: bool,
        cache_ttl: Option<f64>,
    ) -> PyResult<u32> {
        let ttl = cache_ttl.map(Duration::try_from_secs_f64).transpose();
        let ttl = ttl.map_err(value_error)?;
        let mut endpoint = endpoint(path, &handler, asynchronous, &arguments)?;
        endpoint.methods = Some(methods.join(",").into());
        let methods = methods
            .iter()
            .map(|name| method(name))
            .collect::<PyResult<Vec<_>>>()?;
        let state = &mut *self.state();
        let id = EndpointId(state.endpoints.http.len() as u32);
        let added = state.routes.router.add_http(&methods, path, id);
        added.map_err(|error| conflict(&error, &place, &state.http_places))?;
        state.routes.http.push(HttpEndpoint {
            wants_request: endpoint.wants_subject(),
            max_body_bytes: max_body_size,
            streams_body: stream_body,
            folder: None,
            turbo: turbo.then_some(Turbo { ttl }),
        });
        state.endpoints.http.push(endpoint);
        state.http_places.push(place);
        Ok(id.0)
    }

    /// Puts another function before that of an HTTP endpoint, with the same arguments, but that it
    /// always takes the request, and takes it first. Unless it `keeps`, each request is for it, even if
    /// answers were to be kept.
    #[pyo3(signature = (endpoint, handler, asynchronous, *, keeps))]
    fn surround(
        &self,
        endpoint: u32,
        handler: Bound<'_, PyAny>,
        asynchronous: bool,
        keeps: bool,
    ) -> PyResult<()> {
        let state = &mut *self.state();
        let at = endpoint as usize;
        let (Some(known), Some(old)) = (
            state.routes.http.get_mut(at),
            state.endpoints.http.get_mut(at),
        ) else {
            return Err(value_error(format!("Unknown endpoint {endpoint}.")));
        };
        known.wants_request = true;
        known.turbo = known.turbo.filter(|_| keeps);
        old.callable = handler.unbind();
        old.asynchronous = asynchronous;
        old.arguments
            .retain(|argument| !matches!(argument, Argument::Subject));
        old.arguments.insert(0, Argument::Subject);
        Ok(())
    }

    /// Has a function called with the request, the status (404, 405), the sentence, and the methods that the
    /// path has, instead of answering so.
    fn set_fallback(&self, handler: Bound<'_, PyAny>, asynchronous: bool) {
        let state = &mut *self.state();
        if let Some(EndpointId(at)) = state.routes.fallback {
            let old = &mut state.endpoints.http[at as usize];
            old.callable = handler.unbind();
            old.asynchronous = asynchronous;
            return;
        }
        let id = EndpointId(state.endpoints.http.len() as u32);
        state.routes.http.push(HttpEndpoint {
            wants_request: true,
            max_body_bytes: None,
            streams_body: false,
            folder: None,
            turbo: None,
        });
        state.endpoints.http.push(Endpoint {
            callable: handler.unbind(),
            asynchronous,
            runs_sessions: false,
            max_topics: 0,
            arguments: vec![
                Argument::Subject,
                Argument::Value(0),
                Argument::Value(1),
                Argument::Value(2),
            ],
            names: Arc::default(), // the path has no parameters
            route: "(no route)".into(),
            methods: None,
        });
        state.http_places.push("the fallback".to_owned());
        state.routes.fallback = Some(id);
    }

    /// What pages of other origins may do.
    #[pyo3(signature = (*, origins, credentials, methods, headers, expose, max_age))]
    fn set_cors(
        &self,
        origins: Vec<String>,
        credentials: bool,
        methods: Vec<String>,
        headers: Option<Vec<String>>,
        expose: Vec<String>,
        max_age: u32,
    ) -> PyResult<()> {
        let cors = Cors::new(CorsOptions {
            origins,
            credentials,
            methods,
            headers,
            expose,
            max_age,
        });
        self.state().routes.cors = Some(Arc::new(cors.map_err(value_error)?));
        Ok(())
    }

    /// The hosts that requests and handshakes may name. None: all.
    #[pyo3(signature = (hosts, /))]
    fn set_hosts(&self, hosts: Option<Vec<String>>) -> PyResult<()> {
        let hosts = hosts.map(Hosts::new).transpose().map_err(value_error)?;
        self.state().routes.hosts = hosts.map(Arc::new);
        Ok(())
    }

    /// Registers a WebSocket handler, which is asynchronous.
    #[pyo3(signature = (path, handler, *, arguments, config, place))]
    fn add_websocket(
        &self,
        path: &str,
        handler: Bound<'_, PyAny>,
        arguments: Vec<Option<String>>,
        config: WebSocketConfig,
        place: String,
    ) -> PyResult<()> {
        let mut endpoint = endpoint(path, &handler, true, &arguments)?;
        endpoint.runs_sessions = true;
        endpoint.max_topics = config.max_topics;
        self.add_socket(
            path,
            Arc::new(HandlerProtocol),
            Some(endpoint),
            None,
            place,
            &config,
        )
    }

    /// Registers a route that is served in Rust. `admit` is asked once per connection.
    /// `hooks` are told of each session.
    #[pyo3(signature = (path, *, response_prefix, broadcast, config, admit, asynchronous, arguments, hooks, place))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, called from one place"
    )]
    fn add_turbo(
        &self,
        path: &str,
        response_prefix: Option<String>,
        broadcast: Option<&str>,
        config: WebSocketConfig,
        admit: Option<Bound<'_, PyAny>>,
        asynchronous: bool,
        arguments: Vec<Option<String>>,
        hooks: Option<Py<PyAny>>,
        place: String,
    ) -> PyResult<()> {
        let accept: Arc<dyn Accept> = match (response_prefix, broadcast) {
            (Some(prefix), None) => Arc::new(Echo::new(&prefix)),
            (None, Some(topic)) => {
                let names: Vec<String> = names(path)?;
                let template = TopicTemplate::parse(topic, &names).map_err(value_error)?;
                Arc::new(RelayRoute::new(template))
            }
            _ => {
                return Err(value_error(format!(
                    "The turbo route {path:?} needs either response_prefix (an echo) or broadcast \
                     (a relay)."
                )));
            }
        };
        let endpoint = admit
            .as_ref()
            .map(|admit| endpoint(path, admit, asynchronous, &arguments))
            .transpose()?;
        self.add_socket(path, accept, endpoint, hooks, place, &config)
    }

    /// The parameters of a path, in its order: their names, and those of their converters.
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn path_parameters<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyDict>> {
        let template = PathTemplate::parse(path).map_err(value_error)?;
        let parameters = PyDict::new(py);
        for (name, converter) in template.names().zip(template.converters()) {
            parameters.set_item(name, converter.name())?;
        }
        Ok(parameters)
    }

    /// The path as a URL has it, with each parameter as `{name}`.
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn documented_path(&self, path: &str) -> PyResult<String> {
        let template = PathTemplate::parse(path).map_err(value_error)?;
        Ok(template.documented())
    }

    /// The path with its parameters filled in, percent-encoded.
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn url(&self, path: &str, values: HashMap<String, String>) -> PyResult<String> {
        let template = PathTemplate::parse(path).map_err(value_error)?;
        let url = template.url(|name| values.get(name).map(String::as_str));
        url.map_err(value_error)
    }

    fn __len__(&self) -> usize {
        let state = self.state();
        state.routes.http.len() + state.routes.websockets.len()
    }
}

impl Router {
    fn add_socket(
        &self,
        path: &str,
        accept: Arc<dyn Accept>,
        endpoint: Option<Endpoint>,
        hooks: Option<Py<PyAny>>,
        place: String,
        config: &WebSocketConfig,
    ) -> PyResult<()> {
        let settings = WebSocketEndpoint {
            accept,
            needs_admission: endpoint.is_some(),
            has_hooks: hooks.is_some(),
            limits: config.limits(),
            origins: config.origins()?,
            subprotocols: config.subprotocols()?,
            compression: config.compression,
        };
        let names: Arc<[String]> = names(path)?.into();
        let hooks = hooks.map(|object| Hooks { object, names });
        let state = &mut *self.state();
        let id = EndpointId(state.endpoints.websockets.len() as u32);
        let added = state.routes.router.add_websocket(path, id);
        added.map_err(|error| conflict(&error, &place, &state.websocket_places))?;
        state.routes.websockets.push(settings);
        state.endpoints.websockets.push(endpoint);
        state.endpoints.hooks.push(hooks);
        state.websocket_places.push(place);
        Ok(())
    }
}

/// Names of the parameters in a path, in its order.
fn names(path: &str) -> PyResult<Vec<String>> {
    let template = PathTemplate::parse(path).map_err(value_error)?;
    Ok(template.names().map(str::to_owned).collect())
}

fn endpoint(
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

fn method(name: &str) -> PyResult<Method> {
    Method::from_bytes(name.to_ascii_uppercase().as_bytes())
        .map_err(|_| value_error(format!("{name:?} is not an HTTP method.")))
}

/// A conflict names both handlers; other errors say enough themselves.
fn conflict(error: &RouteError, place: &str, places: &[String]) -> PyErr {
    let RouteError::Conflict {
        endpoint: Some(other),
        ..
    } = error
    else {
        return value_error(error);
    };
    let other = &places[other.0 as usize];
    value_error(format!(
        "{error} The first is for {other}, the second for {place}."
    ))
}
