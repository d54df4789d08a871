//! The table that holds the running handlers of a worker, whether or not their clients are connected. A graceful
//! shutdown waits for them, and names those that it cancels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::endpoint::Endpoint;

/// The running handlers of one worker.
#[derive(Default)]
pub(super) struct RunningHandlers(Mutex<State>);

/// One place per handler, reused when it is free: a handler costs no allocation.
#[derive(Default)]
struct State {
    all: Vec<Option<RunningHandler>>,
    free: Vec<usize>,
}

struct RunningHandler {
    route: Arc<str>,
    at: Instant,
    /// asyncio holds tasks weakly: a task that waits for an object without another owner would be collected.
    task: Option<Py<PyAny>>,
}

/// Counts a handler as running until it is dropped.
pub(super) struct HandlerGuard {
    all: Arc<RunningHandlers>,
    place: usize,
}

/// The handlers of one route.
pub(super) struct RouteHandlers {
    pub route: Arc<str>,
    pub count: usize,
    /// How long the oldest one has run.
    pub oldest: Duration,
}

impl RunningHandlers {
    fn places(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a handler that starts.
    pub(super) fn begin(self: &Arc<Self>, endpoint: &Endpoint) -> HandlerGuard {
        let handler = RunningHandler {
            route: Arc::clone(&endpoint.route),
            at: Instant::now(),
            task: None,
        };
        let mut places = self.places();
        let place = places.free.pop().unwrap_or(places.all.len());
        if place == places.all.len() {
            places.all.push(Some(handler));
        } else {
            places.all[place] = Some(handler);
        }
        drop(places);
        HandlerGuard {
            all: Arc::clone(self),
            place,
        }
    }

    /// The number of running handlers.
    pub(super) fn count(&self) -> usize {
        let places = self.places();
        places.all.len() - places.free.len()
    }

    /// The running handlers by route.
    pub(super) fn by_route(&self) -> Vec<RouteHandlers> {
        let mut found: HashMap<Arc<str>, (usize, Instant)> = HashMap::new();
        for handler in self.places().all.iter().flatten() {
            let entry = found
                .entry(Arc::clone(&handler.route))
                .or_insert((0, handler.at));
            *entry = (entry.0 + 1, entry.1.min(handler.at));
        }
        let route_handlers = |(route, (count, at)): (Arc<str>, (usize, Instant))| RouteHandlers {
            route,
            count,
            oldest: at.elapsed(),
        };
        found.into_iter().map(route_handlers).collect()
    }
}

impl HandlerGuard {
    /// Holds a reference to the task as long as the handler runs.
    pub(super) fn hold(&self, task: Py<PyAny>) {
        let mut places = self.all.places();
        let handler = places.all[self.place].as_mut();
        let _before = handler.and_then(|handler| handler.task.replace(task));
        drop(places);
    }
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        let mut places = self.all.places();
        let handler = places.all[self.place].take();
        places.free.push(self.place);
        // The memory of a burst is returned.
        if places.free.len() == places.all.len() {
            places.all.clear();
            places.free.clear();
            if places.all.capacity() > MAX_RETAINED {
                places.all.shrink_to(MAX_RETAINED);
                places.free.shrink_to(MAX_RETAINED);
            }
        }
        drop(places);
        drop(handler);
    }
}

/// Capacity for places that is retained while no handler runs.
const MAX_RETAINED: usize = 1024;
