//! The router that finds the endpoint of a request: by path and method for HTTP, by path for a WebSocket.
//!
//! Paths match exactly, including a trailing slash. Among the routes of a request's method, text takes precedence
//! over a parameter. If a request differs from an HTTP route only by its trailing slash, the router returns the
//! path of the route. It knows endpoints only by their numbers.

use std::collections::HashMap;

use actix_http::Method;

use super::path::{PathError, PathTemplate, Values, normalize};

/// The number of an endpoint: an index into the list of the code that registers them.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct EndpointId(pub u32);

/// The routes of one application.
#[derive(Clone, Default)]
pub struct Router {
    http: Table,
    websocket: Table,
}

/// Why a route cannot be registered.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum RouteError {
    /// The path is invalid.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Another route would match the same requests.
    #[error(
        "The path {path:?} conflicts with {with:?}: a request could match both. Change one of \
         them, or remove it."
    )]
    Conflict {
        /// The new path.
        path: String,
        /// The path that was registered before.
        with: String,
        /// Its endpoint.
        endpoint: Option<EndpointId>,
    },
    /// An HTTP route without methods.
    #[error("The path {0:?} has no methods: give at least one, such as GET.")]
    NoMethods(String),
}

/// The result of looking up an HTTP request.
#[derive(Debug)]
pub enum RouteLookup<'r> {
    /// A route matches.
    Match(RouteMatch<'r>),
    /// 405: the path exists for other methods, listed for the `Allow` header.
    MethodNotAllowed {
        /// The methods, as in `GET, HEAD`.
        allow: String,
    },
    /// The path exists with a trailing slash added or removed.
    OtherSlash {
        /// That path, percent-encoded as the client sent it.
        path: String,
    },
    /// 404: no route has the path.
    NotFound,
}

/// A route that matches.
#[derive(Debug)]
pub struct RouteMatch<'r> {
    /// The endpoint of the route.
    pub endpoint: EndpointId,
    /// The path of the route, with the names of its parameters.
    pub path: &'r PathTemplate,
    /// The parameters' values, in the order of the names.
    pub values: Values,
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an endpoint for a path and some methods.
    pub fn add_http(
        &mut self,
        methods: &[Method],
        path: &str,
        endpoint: EndpointId,
    ) -> Result<(), RouteError> {
        if methods.is_empty() {
            return Err(RouteError::NoMethods(path.to_owned()));
        }
        self.http.add(methods, path, endpoint)
    }

    /// Registers an endpoint for the WebSocket sessions of a path.
    pub fn add_websocket(&mut self, path: &str, endpoint: EndpointId) -> Result<(), RouteError> {
        self.websocket.add(&[Method::GET], path, endpoint)
    }

    /// Finds the endpoint of a request. `path` is percent-encoded as the client sent it, without the query. HEAD
    /// uses the endpoint of GET, unless it has its own.
    pub fn http(&self, method: &Method, path: &str) -> RouteLookup<'_> {
        match self.http.find(method, path) {
            RouteLookup::NotFound => self.http.find_other_slash(method, path),
            outcome => outcome,
        }
    }

    /// Finds the endpoint of a WebSocket's handshake.
    pub fn websocket(&self, path: &str) -> Option<RouteMatch<'_>> {
        match self.websocket.find(&Method::GET, path) {
            RouteLookup::Match(found) => Some(found),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths = |table: &Table| -> Vec<String> {
            let routes = table.resources.iter().flatten();
            routes
                .map(|route| route.template.as_str().to_owned())
                .collect()
        };
        f.debug_struct("Router")
            .field("http", &paths(&self.http))
            .field("websocket", &paths(&self.websocket))
            .finish()
    }
}

/// All routes of one kind.
#[derive(Clone, Default)]
struct Table {
    /// For each method, a tree from a path to its index in `resources`. A method's tree contains only paths with a
    /// route for it. So text that is served for other methods only does not hide a parameter. The tree of HEAD also
    /// has the paths of GET.
    trees: Vec<(Method, matchit::Router<usize>)>,
    /// Indexes by shape: the path without the names of its parameters.
    by_shape: HashMap<String, usize>,
    /// The routes of each shape: one per registration, no two with a common method. Never empty.
    resources: Vec<Vec<Route>>,
}

#[derive(Clone)]
struct Route {
    methods: Vec<Method>,
    template: PathTemplate,
    endpoint: EndpointId,
}

impl Table {
    fn add(
        &mut self,
        methods: &[Method],
        path: &str,
        endpoint: EndpointId,
    ) -> Result<(), RouteError> {
        let template = PathTemplate::parse(path)?;
        let shape = template.shape().to_owned();
        let route = Route {
            methods: methods.to_vec(),
            template,
            endpoint,
        };
        let known = self.by_shape.get(&shape).copied();
        let others = known.map_or(&[][..], |place| &self.resources[place]);
        let shares = |other: &&Route| methods.iter().any(|it| other.methods.contains(it));
        if let Some(other) = others.iter().find(shares) {
            return Err(other.conflict(path));
        }
        let mut new = Vec::new();
        for method in served_with(methods) {
            let is_known = others.iter().any(|other| other.serves(&method));
            if !is_known && !new.contains(&method) {
                new.push(method);
            }
        }
        let place = known.unwrap_or(self.resources.len());
        self.insert(&new, &route.template, place)?;
        if known.is_none() {
            self.by_shape.insert(shape, place);
            self.resources.push(Vec::new());
        }
        self.resources[place].push(route);
        Ok(())
    }

    /// Inserts a path into the trees of these methods: into all, or, if one refuses it, into none.
    fn insert(
        &mut self,
        methods: &[Method],
        template: &PathTemplate,
        place: usize,
    ) -> Result<(), RouteError> {
        for (done, method) in methods.iter().enumerate() {
            if let Err(error) = self.tree(method).insert(template.pattern(), place) {
                for method in &methods[..done] {
                    self.tree(method).remove(template.pattern());
                }
                return Err(self.explain(template, &error));
            }
        }
        Ok(())
    }

    fn tree(&mut self, method: &Method) -> &mut matchit::Router<usize> {
        let known = self.trees.iter().position(|(other, _)| other == method);
        let at = known.unwrap_or_else(|| {
            self.trees.push((method.clone(), matchit::Router::new()));
            self.trees.len() - 1
        });
        &mut self.trees[at].1
    }

    /// Explains why a tree refuses a path.
    fn explain(&self, template: &PathTemplate, error: &matchit::InsertError) -> RouteError {
        let path = template.as_str();
        let matchit::InsertError::Conflict { with } = error else {
            // Our parser is stricter. Of the paths that it accepts, the tree refuses only this kind.
            return PathError::SharedSegment(path.to_owned()).into();
        };
        let mut routes = self.resources.iter().flatten();
        match routes.find(|other| other.template.pattern() == with) {
            Some(other) => other.conflict(path),
            None => RouteError::Conflict {
                path: path.to_owned(),
                with: with.clone(),
                endpoint: None,
            },
        }
    }

    fn find(&self, method: &Method, path: &str) -> RouteLookup<'_> {
        let Some(path) = normalize(path) else {
            return RouteLookup::NotFound;
        };
        let mut trees = self.trees.iter();
        let of_method = trees.find(|(other, _)| other == method);
        let own = of_method.and_then(|(method, tree)| self.find_in(method, tree, &path));
        if let Some(found) = own {
            return RouteLookup::Match(found);
        }
        let has_route = |(method, tree): &&_| self.find_in(method, tree, &path).is_some();
        let others = self.trees.iter().filter(has_route);
        let allow = allow(others.map(|(method, _)| method));
        if allow.is_empty() {
            return RouteLookup::NotFound;
        }
        RouteLookup::MethodNotAllowed { allow }
    }

    /// Looks up a path in the tree of a method.
    fn find_in(
        &self,
        method: &Method,
        tree: &matchit::Router<usize>,
        path: &str,
    ) -> Option<RouteMatch<'_>> {
        let found = tree.at(path).ok()?;
        let routes = &self.resources[*found.value];
        let of = |method: &Method| {
            let mut routes = routes.iter().filter(|route| route.methods.contains(method));
            routes.find_map(|route| {
                let texts = found.params.iter().map(|(_, text)| text);
                Some(RouteMatch {
                    endpoint: route.endpoint,
                    path: &route.template,
                    values: route.template.convert(texts)?,
                })
            })
        };
        let by_get = || (*method == Method::HEAD).then(|| of(&Method::GET))?;
        of(method).or_else(by_get)
    }

    /// Looks up the path with its trailing slash added or removed.
    fn find_other_slash(&self, method: &Method, path: &str) -> RouteLookup<'_> {
        // A redirect to a path with two slashes would lead the client to another host.
        if path.starts_with("//") || !path.starts_with('/') {
            return RouteLookup::NotFound;
        }
        let other = match path.strip_suffix('/') {
            Some(shorter) => shorter.to_owned(),
            None => format!("{path}/"),
        };
        match self.find(method, &other) {
            RouteLookup::Match(_) => RouteLookup::OtherSlash { path: other },
            _ => RouteLookup::NotFound,
        }
    }
}

impl Route {
    /// Whether the route is in the tree of this method.
    fn serves(&self, method: &Method) -> bool {
        served_with(&self.methods).any(|it| it == *method)
    }

    fn conflict(&self, path: &str) -> RouteError {
        RouteError::Conflict {
            path: path.to_owned(),
            with: self.template.as_str().to_owned(),
            endpoint: Some(self.endpoint),
        }
    }
}

/// These methods, and HEAD if GET is among them.
fn served_with(methods: &[Method]) -> impl Iterator<Item = Method> {
    let has = |method| methods.contains(&method);
    let head = (has(Method::GET) && !has(Method::HEAD)).then_some(Method::HEAD);
    methods.iter().cloned().chain(head)
}

/// The `Allow` header for these methods. OPTIONS is always allowed. Empty if there are none.
fn allow<'m>(methods: impl Iterator<Item = &'m Method>) -> String {
    let mut names: Vec<&str> = methods.map(Method::as_str).collect();
    if !names.is_empty() {
        names.push("OPTIONS");
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
