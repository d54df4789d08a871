//! `_core.Bus`: a process's membership in a bus; and the list of all there are.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::errors::{BusError, value_error};
use super::history::{self, ReplayRequest};
use super::publisher::Publisher;
use super::readers::Readers;
use super::record::Record;
use super::subscription::{Bell, Subscription};
use crate::actors::topic::Topic;
use crate::ipc::{self, Fate, PublishError, RetentionRule, ServerNeeds};

/// Membership of this process in a named bus. A copy inherited by fork is inert.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Bus {
    name: String,
    epoch: u64,
    /// None once closed.
    membership: Mutex<Option<ipc::Bus>>,
    readers: Arc<Readers>,
}

impl Bus {
    fn new(bus: ipc::Bus) -> Self {
        Self {
            name: bus.name().to_owned(),
            epoch: bus.epoch(),
            membership: Mutex::new(Some(bus)),
            readers: Arc::default(),
        }
    }

    /// The bus, unless it has been closed.
    pub(super) fn get(&self) -> PyResult<ipc::Bus> {
        let bus = self
            .membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        bus.clone()
            .ok_or_else(|| BusError::new_err("This bus has been closed."))
    }

    /// The bus, to be used by this very process.
    fn own(&self) -> PyResult<ipc::Bus> {
        let bus = self.get()?;
        if bus.is_forked() {
            return Err(bus_error(ipc::BusError::Forked));
        }
        Ok(bus)
    }
}

fn bus_error(error: ipc::BusError) -> PyErr {
    BusError::new_err(error.to_string())
}

fn check_ring(bytes: Option<usize>) -> PyResult<()> {
    if bytes.is_none_or(usize::is_power_of_two) {
        return Ok(());
    }
    Err(PyValueError::new_err("ring_bytes must be a power of two."))
}

#[pymethods]
impl Bus {
    /// Creates the bus, or joins the one of that name. `BusError`, a sentence, if it cannot.
    #[staticmethod]
    #[pyo3(signature = (name, *, ring_bytes=None, history_bytes=None))]
    fn open(
        py: Python<'_>,
        name: &str,
        ring_bytes: Option<usize>,
        history_bytes: Option<usize>,
    ) -> PyResult<Self> {
        check_ring(ring_bytes)?;
        let opened = py.detach(|| ipc::Bus::open_fitting(name, ring_bytes, history_bytes));
        opened.map(Self::new).map_err(bus_error)
    }

    /// As `open`, for the first process of a server, whose other processes get places that are reserved.
    #[staticmethod]
    #[pyo3(signature = (name, *, workers, extra_workers, supervised, keeps, joined=0, ring_bytes=None, history_bytes=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn serve(
        py: Python<'_>,
        name: &str,
        workers: usize,
        extra_workers: usize,
        supervised: bool,
        keeps: bool,
        joined: usize,
        ring_bytes: Option<usize>,
        history_bytes: Option<usize>,
    ) -> PyResult<Self> {
        check_ring(ring_bytes)?;
        let server = ServerNeeds {
            workers,
            extra_workers,
            is_supervised: supervised,
            joined,
            retains_history: keeps,
            ring_bytes,
            history_bytes,
        };
        let opened = py.detach(|| ipc::Bus::serve(name, &server));
        opened.map(Self::new).map_err(bus_error)
    }

    /// Joins the bus of that name as it is, as a worker of its server or not. None if there is none.
    #[staticmethod]
    #[pyo3(signature = (name, *, worker=false))]
    fn attach(py: Python<'_>, name: &str, worker: bool) -> PyResult<Option<Self>> {
        let attach = if worker {
            ipc::Bus::attach_as_worker
        } else {
            ipc::Bus::attach
        };
        match py.detach(|| attach(name)) {
            Ok(bus) => Ok(Some(Self::new(bus))),
            Err(ipc::BusError::NotFound { .. }) => Ok(None),
            Err(error) => Err(bus_error(error)),
        }
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.epoch
    }

    #[getter]
    fn end(&self) -> PyResult<u64> {
        Ok(self.own()?.end())
    }

    #[getter]
    fn ring_bytes(&self) -> PyResult<usize> {
        Ok(self.get()?.ring_bytes())
    }

    #[getter]
    fn history_bytes(&self) -> PyResult<usize> {
        Ok(self.get()?.history_bytes())
    }

    #[getter]
    fn max_message_bytes(&self) -> PyResult<usize> {
        Ok(self.get()?.max_message_bytes())
    }

    /// Publishes a message; returns its offset. Any thread. May wait for hubs, without Python's lock.
    fn publish(&self, topic: &str, message: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.get()?.publish_message(topic, message, 0)
    }

    /// A reader of what is published to the topic from now on; and what was published before, as far
    /// as it is asked for, and whether that is all of it.
    #[pyo3(signature = (topic, *, last=None, since=None, epoch=None))]
    fn subscribe<'py>(
        slf: Bound<'py, Self>,
        topic: &Bound<'py, PyString>,
        last: Option<i64>,
        since: Option<i64>,
        epoch: Option<u64>,
    ) -> PyResult<(Subscription, Vec<Record>, bool)> {
        let py = slf.py();
        let name = topic.to_str()?;
        let bus = slf.get().own()?;
        let reach = ReplayRequest { last, since, epoch }.reach(&bus)?;
        let cursor = slf
            .get()
            .readers
            .subscribe(bus.clone(), Topic::new(name).map_err(value_error)?);
        let (records, complete) = match (reach, cursor.place()) {
            (Some(reach), Some((_, until))) => {
                history::records(py, &bus, topic, name, reach, until)?
            }
            _ => (Vec::new(), true),
        };
        let readers = Arc::clone(&slf.get().readers);
        let subscription = Subscription::new(py, cursor, readers, slf.clone().into_any().unbind())?;
        Ok((subscription, records, complete))
    }

    /// What was published to the topic before, and whether it is all that was asked for.
    #[pyo3(signature = (topic, *, last=None, since=None, epoch=None))]
    fn history(
        &self,
        topic: &Bound<'_, PyString>,
        last: Option<i64>,
        since: Option<i64>,
        epoch: Option<u64>,
    ) -> PyResult<(Vec<Record>, bool, u64)> {
        let name = topic.to_str()?;
        Topic::new(name).map_err(value_error)?;
        let bus = self.own()?;
        let reach = ReplayRequest { last, since, epoch }.reach(&bus)?;
        let reach = reach.ok_or_else(|| {
            PyValueError::new_err("Pass last=100, or since=the offset of a message.")
        })?;
        let until = bus.end();
        let (records, complete) = history::records(topic.py(), &bus, topic, name, reach, until)?;
        Ok((records, complete, until))
    }

    /// From now on so many records of the topics that match are kept. `seconds` 0: for ever.
    fn retain(&self, py: Python<'_>, pattern: String, records: u32, seconds: u32) -> PyResult<()> {
        let bus = self.own()?;
        let rule = RetentionRule {
            pattern,
            records,
            seconds,
        };
        py.detach(|| bus.retain(&rule)).map_err(bus_error)
    }

    /// A bell for one event loop.
    fn bell(&self) -> PyResult<Bell> {
        Ok(Bell(self.readers.bell(self.own()?)?))
    }

    /// Cleans up after members that died, wakes all sleepers; returns how many had died.
    fn reap(&self) -> PyResult<usize> {
        Ok(self.get()?.reap())
    }

    /// For a supervisor: places for so many processes of the server, with itself, or `BusError`.
    fn reserve_places(&self, py: Python<'_>, processes: usize) -> PyResult<()> {
        let bus = self.own()?;
        py.detach(|| bus.reserve_places(processes))
            .map_err(bus_error)
    }

    /// Why it is of no use any more, or None: "was removed", "is damaged", or its name has gone.
    fn fault(&self) -> PyResult<Option<&'static str>> {
        let bus = self.own()?;
        Ok(match bus.fate() {
            Some(Fate::Removed) => Some("was removed"),
            Some(Fate::Damaged) => Some("is damaged"),
            None if !bus.is_still_named().map_err(bus_error)? => Some("has lost its name"),
            None => None,
        })
    }

    /// Removes it, and tells those who have it open.
    fn remove(&self) -> PyResult<()> {
        self.get()?.remove().map_err(bus_error)
    }

    /// Removes it unless another process has it open. Whether it did.
    fn remove_if_unused(&self) -> PyResult<bool> {
        self.get()?.remove_if_unused().map_err(bus_error)
    }

    /// Leaves the bus, and ends its subscriptions. Twice is allowed.
    fn close(&self, py: Python<'_>) {
        let bus = self
            .membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(bus) = bus {
            py.detach(|| self.readers.close(&bus));
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    fn __repr__(&self) -> String {
        format!("<Bus {:?}>", self.name)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let bus = self
            .membership
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(bus) = bus.take() {
            self.readers.close(&bus);
        }
    }
}

/// `ValueError`, a sentence, if a rule of `retain` cannot have this pattern.
#[pyfunction]
pub(super) fn check_pattern(pattern: String) -> PyResult<()> {
    let rule = RetentionRule {
        pattern,
        records: 0,
        seconds: 0,
    };
    rule.check().map_err(value_error)
}

/// All buses of this user, by name, as [`inspect_bus`] describes them.
#[pyfunction]
pub(super) fn buses(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let found = py.detach(ipc::buses)?;
    found.iter().map(|bus| description(py, bus)).collect()
}

/// The counters of members: the key, the unit, the head of the column, and a phrase about each.
#[pyfunction]
pub(super) fn counters() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let texts = ipc::Counter::ALL.iter().map(|it| it.description());
    let unit = |unit| match unit {
        ipc::Unit::Count => "count",
        ipc::Unit::Bytes => "bytes",
        ipc::Unit::Micros => "microseconds",
    };
    texts
        .map(|it| (it.key, unit(it.unit), it.column, it.help))
        .collect()
}

/// The description of a bus, without joining it.
#[pyfunction]
pub(super) fn inspect_bus<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let found = py.detach(|| ipc::inspect(name)).map_err(bus_error)?;
    description(py, &found)
}

/// Removes a bus. One in use only with `although_used`.
#[pyfunction]
#[pyo3(signature = (name, *, although_used=false))]
pub(super) fn remove_bus(py: Python<'_>, name: &str, although_used: bool) -> PyResult<()> {
    py.detach(|| ipc::remove(name, although_used))
        .map_err(bus_error)
}

fn description<'py>(py: Python<'py>, bus: &ipc::BusInfo) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &bus.name)?;
    dict.set_item("reserved_bytes", bus.reserved_bytes)?;
    let contents = bus.contents.as_ref();
    let end = contents.map_or(0, |it| it.end);
    let members: PyResult<Vec<_>> = bus.members.iter().map(|it| member(py, it, end)).collect();
    dict.set_item("members", members?)?;
    dict.set_item("epoch", contents.map(|it| it.epoch))?;
    dict.set_item("end", contents.map(|it| it.end))?;
    dict.set_item("ring_bytes", contents.map(|it| it.ring_bytes))?;
    dict.set_item("log_entries", contents.map(|it| it.log_entries))?;
    dict.set_item("reserved_places", contents.map(|it| it.reserved))?;
    let history = contents.and_then(|it| it.history.as_ref());
    let history = history.map(|it| kept(py, it)).transpose()?;
    dict.set_item("history", history)?;
    Ok(dict)
}

fn member<'py>(
    py: Python<'py>,
    member: &ipc::MemberInfo,
    end: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let (dict, counts) = (PyDict::new(py), PyDict::new(py));
    for counter in ipc::Counter::ALL {
        counts.set_item(counter.description().key, member.counts.get(*counter))?;
    }
    dict.set_item("slot", member.slot)?;
    dict.set_item("pid", member.pid)?;
    dict.set_item("counts", counts)?;
    dict.set_item(
        "behind",
        member
            .counts
            .reader_offset()
            .map(|place| end.saturating_sub(place)),
    )?;
    Ok(dict)
}

fn kept<'py>(py: Python<'py>, history: &ipc::HistoryContents) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let rules = history.rules.iter();
    let rules: Vec<_> = rules
        .map(|it| (it.pattern.as_str(), it.records, it.seconds))
        .collect();
    dict.set_item("rules", rules)?;
    dict.set_item("topics", history.topics)?;
    dict.set_item("used_bytes", history.used_bytes)?;
    dict.set_item("bytes", history.bytes)?;
    Ok(dict)
}

impl Publisher for ipc::Bus {
    fn bus(&self) -> &ipc::Bus {
        self
    }

    fn error(error: &PublishError) -> PyErr {
        BusError::new_err(error.to_string())
    }
}
