//! The dates, times and durations as JSON strings (ISO 8601), as Python's `isoformat` and pydantic write them.
//!
//! Only `date`, `datetime`, `time` and `timedelta` themselves are written here: their subclasses may have another
//! form.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyTime, PyTimeAccess, PyTzInfo,
    PyTzInfoAccess,
};

use super::out::Out;

/// `"2030-12-31"`
pub(super) fn write_date(date: &Bound<'_, PyDate>, out: &mut Out) {
    let mut line = Line::quoted(out.space());
    line.date(date);
    let len = line.end();
    out.take(len);
}

/// `"2030-12-31T23:59:59.123456+02:00"`
pub(super) fn write_datetime<'py>(
    datetime: &Bound<'py, PyDateTime>,
    last: &mut Zone<'py>,
    out: &mut Out,
) -> PyResult<()> {
    let mut line = Line::quoted(out.space());
    line.date(datetime);
    line.push(b'T');
    line.clock(datetime);
    if let Some(zone) = datetime.get_tzinfo() {
        line.offset(last.offset(datetime, zone)?);
    }
    let len = line.end();
    out.take(len);
    Ok(())
}

/// `"23:59:59.123456+02:00"`
pub(super) fn write_time<'py>(
    time: &Bound<'py, PyTime>,
    last: &mut Zone<'py>,
    out: &mut Out,
) -> PyResult<()> {
    let mut line = Line::quoted(out.space());
    line.clock(time);
    if let Some(zone) = time.get_tzinfo() {
        line.offset(last.offset(time, zone)?);
    }
    let len = line.end();
    out.take(len);
    Ok(())
}

/// `"-P1DT2H3M4.5S"`
pub(super) fn write_delta(delta: &Bound<'_, PyDelta>, out: &mut Out) {
    let mut line = Line::quoted(out.space());
    let length = Length::of(delta);
    if length.is_negative {
        line.push(b'-');
    }
    line.push(b'P');
    let days = length.seconds / 86_400;
    if days > 0 {
        line.number(days, b'D');
    }
    let seconds = length.seconds % 86_400;
    if seconds > 0 || length.micros > 0 || days == 0 {
        line.push(b'T');
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        line.number(hours, b'H');
    }
    if minutes > 0 {
        line.number(minutes, b'M');
    }
    if length.micros > 0 {
        line.digits(seconds);
        line.fraction(length.micros);
        line.trim_zeros();
        line.push(b'S');
    } else if seconds > 0 || length.seconds == 0 {
        line.number(seconds, b'S');
    }
    let len = line.end();
    out.take(len);
}

/// A duration without its sign.
struct Length {
    is_negative: bool,
    seconds: u64,
    micros: u32,
}

impl Length {
    fn of(delta: &Bound<'_, PyDelta>) -> Self {
        let seconds = i64::from(delta.get_days()) * 86_400 + i64::from(delta.get_seconds());
        let all = i128::from(seconds) * 1_000_000 + i128::from(delta.get_microseconds());
        let size = all.unsigned_abs();
        Self {
            is_negative: all < 0,
            seconds: (size / 1_000_000) as u64,
            micros: (size % 1_000_000) as u32,
        }
    }
}

/// The text of one value. None is longer than its space: a datetime with an offset in microseconds
/// has 44 bytes.
struct Line<'a> {
    space: &'a mut [u8; 64],
    len: usize,
}

impl<'a> Line<'a> {
    fn quoted(space: &'a mut [u8; 64]) -> Self {
        space[0] = b'"';
        Self { space, len: 1 }
    }

    /// Its length, with both quotes.
    fn end(mut self) -> usize {
        self.push(b'"');
        self.len
    }

    fn push(&mut self, byte: u8) {
        self.space[self.len] = byte;
        self.len += 1;
    }

    fn two(&mut self, number: u32) {
        debug_assert!(number < 100, "of two digits");
        self.push(b'0' + (number / 10) as u8);
        self.push(b'0' + (number % 10) as u8);
    }

    /// A dot and six digits.
    fn fraction(&mut self, micros: u32) {
        self.push(b'.');
        self.two(micros / 10_000);
        self.two(micros / 100 % 100);
        self.two(micros % 100);
    }

    fn trim_zeros(&mut self) {
        while self.space[self.len - 1] == b'0' {
            self.len -= 1;
        }
    }

    fn digits(&mut self, number: u64) {
        for &digit in itoa::Buffer::new().format(number).as_bytes() {
            self.push(digit);
        }
    }

    fn number(&mut self, number: u64, unit: u8) {
        self.digits(number);
        self.push(unit);
    }

    fn date(&mut self, date: &impl PyDateAccess) {
        let year = date.get_year() as u32;
        self.two(year / 100);
        self.two(year % 100);
        self.push(b'-');
        self.two(u32::from(date.get_month()));
        self.push(b'-');
        self.two(u32::from(date.get_day()));
    }

    fn clock(&mut self, time: &impl PyTimeAccess) {
        self.two(u32::from(time.get_hour()));
        self.push(b':');
        self.two(u32::from(time.get_minute()));
        self.push(b':');
        self.two(u32::from(time.get_second()));
        let micros = time.get_microsecond();
        if micros > 0 {
            self.fraction(micros);
        }
    }

    fn offset(&mut self, Offset { bytes, len }: Offset) {
        self.space[self.len..][..bytes.len()].copy_from_slice(&bytes);
        self.len += len;
    }
}

/// The zone of the last time that had one, if it is one of those of `datetime.timezone`, and its offset.
#[derive(Default)]
pub(super) struct Zone<'py> {
    fixed: Option<Bound<'py, PyTzInfo>>,
    offset: Offset,
}

impl<'py> Zone<'py> {
    /// How far a time of this zone is from UTC, if the zone says so.
    fn offset(&mut self, time: &Bound<'py, PyAny>, zone: Bound<'py, PyTzInfo>) -> PyResult<Offset> {
        let is_known = self.fixed.as_ref().is_some_and(|fixed| fixed.is(&zone));
        if !is_known {
            self.offset = Offset::of(time, &zone)?;
            // Its offset is the same at all times.
            let is_fixed = zone.get_type_ptr() == fixed_type(zone.py())?;
            self.fixed = is_fixed.then_some(zone);
        }
        Ok(self.offset)
    }
}

/// `datetime.timezone`, which `timezone.utc` is one of.
fn fixed_type(py: Python<'_>) -> PyResult<*mut pyo3::ffi::PyTypeObject> {
    Ok(PyTzInfo::utc(py)?.get_type_ptr())
}

/// `+02:00`, or nothing.
#[derive(Clone, Copy, Default)]
struct Offset {
    bytes: [u8; 16],
    len: usize,
}

impl Offset {
    fn of(time: &Bound<'_, PyAny>, zone: &Bound<'_, PyTzInfo>) -> PyResult<Self> {
        let py = time.py();
        // A datetime checks the offset that its zone returns. So the datetime itself is called if there is a doubt.
        if !time.is_instance_of::<PyTime>() {
            let offset = zone.call_method1(intern!(py, "utcoffset"), (time,))?;
            if let Ok(offset) = offset.cast::<PyDelta>() {
                let length = Length::of(offset);
                if length.seconds < 86_400 {
                    return Ok(Self::written(&length));
                }
            }
        }
        let offset = time.call_method0(intern!(py, "utcoffset"))?;
        if offset.is_none() {
            return Ok(Self::default());
        }
        Ok(Self::written(&Length::of(offset.cast()?)))
    }

    fn written(length: &Length) -> Self {
        let mut space = [0; 64];
        let mut line = Line {
            space: &mut space,
            len: 0,
        };
        let seconds = length.seconds as u32; // less than a day
        line.push(if length.is_negative { b'-' } else { b'+' });
        line.two(seconds / 3600);
        line.push(b':');
        line.two(seconds / 60 % 60);
        if !seconds.is_multiple_of(60) || length.micros > 0 {
            line.push(b':');
            line.two(seconds % 60);
        }
        if length.micros > 0 {
            line.fraction(length.micros);
        }
        let len = line.len;
        let (&bytes, _) = space.split_first_chunk().expect("it is longer");
        Self { bytes, len }
    }
}
