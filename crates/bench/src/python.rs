//! The Python module that makes the load driver available as `fanbus_bench._core`. The load driver
//! runs without the GIL.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 passes the arguments of a function by value"
)]

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::time::Duration;

use crate::figures::{Figures, Value};
use crate::{BenchError, Chart, Envelope, Floor, Line, Mode, Options, Progress, Script, Step};

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::{bench, bench_memory, bench_server, chart};
}

/// Measures a server; docs/howto/bench.md describes the result.
#[pyfunction]
fn bench<'py>(
    py: Python<'py>,
    settings: &Bound<'py, PyDict>,
    on_progress: Py<PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = options(settings)?;
    let mut raised = None;
    let measured = py.detach(|| {
        let mut watch = |progress: Progress| {
            Python::attach(|py| match tell(py, &on_progress, progress) {
                Ok(()) => true,
                Err(error) => {
                    raised = Some(error);
                    false
                }
            })
        };
        crate::run(&options, &mut watch)
    });
    match (raised, measured) {
        (Some(error), _) => Err(error),
        (None, Ok(report)) => table(py, &report.figures),
        (None, Err(error)) => Err(error_of(&error)),
    }
}

/// Raises the exception of a signal such as Ctrl+C. Otherwise it reports the progress.
fn tell(py: Python<'_>, on_progress: &Py<PyAny>, progress: Progress) -> PyResult<()> {
    py.check_signals()?;
    on_progress.call1(py, (progress.phase, progress.done, progress.units))?;
    Ok(())
}

fn error_of(error: &BenchError) -> PyErr {
    match error {
        BenchError::Option(_) => PyValueError::new_err(error.to_string()),
        _ => PyOSError::new_err(error.to_string()),
    }
}

/// Reads the settings; an unknown name is an error.
fn options(settings: &Bound<'_, PyDict>) -> PyResult<Options> {
    let needed = |name: &str| -> PyResult<String> {
        let value = settings.get_item(name)?;
        let value = value.ok_or_else(|| PyValueError::new_err(format!("{name} is missing.")))?;
        value.extract()
    };
    let name = needed("mode")?;
    let mode = Mode::named(&name)
        .ok_or_else(|| PyValueError::new_err(format!("There is no mode {name:?}.")))?;
    let mut options = Options::new(mode, &needed("url")?);
    for (name, value) in settings {
        match name.extract::<&str>()? {
            "mode" | "url" => {}
            "publish_url" => options.publish_url = value.extract()?,
            "pid" => options.pid = value.extract()?,
            "seconds" => options.measure = seconds(&value)?,
            "warmup" => options.warmup = seconds(&value)?,
            "patience" => options.patience = seconds(&value)?,
            "connections" => options.connections = value.extract()?,
            "publishers" => options.publishers = value.extract()?,
            "in_flight" => options.in_flight = value.extract()?,
            "rate" => options.rate = value.extract()?,
            "bytes" => options.bytes = value.extract()?,
            "binary" => options.binary = value.extract()?,
            "records" => options.records = value.extract()?,
            "compressed" => options.compressed = value.extract()?,
            "prefix" => options.prefix = value.extract()?,
            "greeting" => options.greeting = value.extract()?,
            "envelope" => {
                let (before, after) = value.extract()?;
                options.envelope = Envelope { before, after };
            }
            "hello" => options.hello = value.extract()?,
            "script" => options.script = script(&value)?,
            "subprotocol" => options.subprotocol = value.extract()?,
            "headers" => options.headers = value.extract()?,
            "method" => options.method = value.extract()?,
            "body" => options.body = value.extract()?,
            "ca_file" => options.ca_file = value.extract()?,
            "insecure" => options.insecure = value.extract()?,
            other => {
                return Err(PyValueError::new_err(format!(
                    "There is no setting {other:?}."
                )));
            }
        }
    }
    Ok(options)
}

/// Reads two lists of pairs: the verb of a step, and its text.
fn script(value: &Bound<'_, PyAny>) -> PyResult<Script> {
    type Lines = Vec<(String, String)>;
    let (first, again): (Lines, Lines) = value.extract()?;
    let steps = |pairs: Lines| {
        let step = |(verb, text): (String, String)| match verb.as_str() {
            "send" => Ok(Step::Send(text)),
            "expect" => Ok(Step::Expect(text)),
            _ => Err(PyValueError::new_err(format!(
                "A script can send and expect, and not {verb:?}."
            ))),
        };
        pairs.into_iter().map(step).collect::<PyResult<_>>()
    };
    Ok(Script {
        first: steps(first)?,
        again: steps(again)?,
    })
}

fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = value.extract()?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is not a number of seconds.")))
}

fn table<'py>(py: Python<'py>, figures: &Figures) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in &figures.0 {
        dict.set_item(name, object(py, value)?)?;
    }
    Ok(dict)
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Count(count) => count.into_pyobject(py)?.into_any(),
        Value::Figure(figure) if figure.is_finite() => figure.into_pyobject(py)?.into_any(),
        Value::Figure(_) | Value::None => py.None().into_bound(py),
        Value::Text(text) => text.into_pyobject(py)?.into_any(),
        Value::Flag(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Value::Texts(texts) => PyList::new(py, texts)?.into_any(),
        Value::Buckets(buckets) => PyList::new(py, buckets.iter().copied())?.into_any(),
        Value::Table(figures) => table(py, figures)?.into_any(),
    })
}

/// Runs a baseline server for the load client, until a signal ends the process.
#[pyfunction]
fn bench_server(
    py: Python<'_>,
    port: u16,
    workers: usize,
    on_listening: Py<PyAny>,
    with_parent: bool,
) -> PyResult<()> {
    if with_parent {
        set_pdeathsig(Signal::SIGTERM).map_err(|error| PyOSError::new_err(error.to_string()))?;
    }
    let floor = Floor::listen(port, workers)?;
    on_listening.call1(py, (floor.port()?,))?;
    py.detach(|| floor.serve())?;
    Ok(())
}

/// Returns the memory of a process and its descendants, in MiB, as `bench` reports it.
#[pyfunction]
fn bench_memory(pid: u32) -> PyResult<f64> {
    crate::memory_mib(pid).map_err(|error| error_of(&error))
}

/// Draws named curves as an SVG picture.
#[pyfunction]
fn chart(
    title: String,
    x_title: String,
    x_names: Vec<String>,
    y_title: String,
    y_is_logarithmic: bool,
    lines: Vec<(String, Vec<(f64, f64)>)>,
) -> PyResult<String> {
    let lines = lines
        .into_iter()
        .map(|(name, points)| Line { name, points });
    let chart = Chart {
        title,
        x_title,
        x_names,
        y_title,
        y_is_logarithmic,
        lines: lines.collect(),
    };
    chart.svg().map_err(|error| error_of(&error))
}
