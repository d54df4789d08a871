//! The handlers that run, from their first step to their last, whether or not their client is still
//! there. An orderly end waits for them, and names those that it cuts off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::router::Endpoint;

/// All of one worker.
#[derive(Default)]
pub(super) struct RunningHandlers(Mutex<State>);

/// A place for each, used again when it is free: nothing is allocated for a handler.
#[derive(Default)]
struct State {
    all: Vec<Option<RunningHandler>>,
    free: Vec<usize>,
}

struct RunningHandler {
    route: Arc<str>,
    at: Instant,
    /// asyncio holds tasks weakly: one that waits for something that nobody else holds would be collected.
    task: Option<Py<PyAny>>,
}

/// A handler that runs until this is dropped.
pub(super) struct HandlerGuard {
    all: Arc<RunningHandlers>,
    place: usize,
}

/// The handlers of one route.
pub(super) struct RouteHandlers {
    pub route: Arc<str>,
    pub count: usize,
    /// How long the oldest one runs.
    pub oldest: Duration,
}

impl RunningHandlers {
    fn places(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler begins.
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

    /// How many run.
    pub(super) fn count(&self) -> usize {
        let places = self.places();
        places.all.len() - places.free.len()
    }

    /// Those that run, by route.
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
    /// The task lives as long as the handler runs.
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
        // A crowd that has left leaves no memory behind.
        if places.free.len() == places.all.len() {
            places.all.clear();
            places.free.clear();
            if places.all.capacity() > MOST_KEPT {
                places.all.shrink_to(MOST_KEPT);
                places.free.shrink_to(MOST_KEPT);
            }
        }
        drop(places);
        drop(handler);
    }
}

/// State whose memory is retained while no handler runs.
const MOST_KEPT: usize = 1024;
