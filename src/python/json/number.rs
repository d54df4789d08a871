//! The numbers of JSON, written as Python writes them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};

use super::containers::small;
use super::out::Out;
use super::text;

/// Appends an `int`, or a value of a subclass.
pub(super) fn write_int(value: &Bound<'_, PyInt>, out: &mut Out) -> PyResult<()> {
    let Some(number) = small(value) else {
        // int's own text, also for a subclass that prints itself otherwise.
        return write_repr::<PyInt>(value, out);
    };
    write_small(number, out);
    Ok(())
}

/// Appends an integer that fits 64 bits.
#[inline(never)]
pub(super) fn write_small(number: i64, out: &mut Out) {
    match u32::try_from(number) {
        Ok(number) if number < 100_000_000 => {
            let digits = digits(number);
            // The first one is not 0, but for 0 itself, which has one digit.
            let zeros = ((digits | 1 << 56).trailing_zeros() / 8) as usize;
            let text = (digits | u64::from_le_bytes([b'0'; 8])) >> (8 * zeros);
            text::write_word(text.to_le_bytes(), 8 - zeros, out);
        }
        _ => text::write_plain(itoa::Buffer::new().format(number), out),
    }
}

/// The eight digits of a number, the first one lowest: a byte each. All are made at once, in a word.
#[inline]
fn digits(number: u32) -> u64 {
    debug_assert!(number < 100_000_000, "of eight digits");
    let number = u64::from(number);
    // Halves of four digits, then quarters of two, then digits. The factors divide by 100 and by 10.
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | ((halves - 100 * hundreds) << 16);
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((quarters - 10 * tens) << 8)
}

/// Appends a number as most are. False: it is another one, and nothing was appended.
#[inline(never)]
pub(super) fn write_usual(number: f64, out: &mut Out) -> bool {
    let is_usual = is_written_alike(number);
    if let Some(hundredths) = hundredths(number) {
        if number.is_sign_negative() {
            out.push(b'-');
        }
        write_small(i64::from(hundredths / 100), out);
        let [tenth, hundredth] =
            [hundredths / 10 % 10, hundredths % 10].map(|digit| b'0' + digit as u8);
        *out.space() = [b'.', tenth, hundredth];
        out.take(if hundredth == b'0' { 2 } else { 3 });
    } else if is_usual {
        text::write_plain(zmij::Buffer::new().format_finite(number), out);
    }
    is_usual
}

/// A number of few digits, as a price, in hundredths and without its sign.
///
/// If it is the number that is nearest to these hundredths, they are its shortest text: no two decimals
/// of up to 15 digits have the same number.
#[inline]
#[expect(clippy::float_cmp, reason = "it is this number or it is not")]
fn hundredths(number: f64) -> Option<u32> {
    let size = number.abs();
    let product = size * 100.0;
    if product >= 1e8 {
        return None;
    }
    let nearest = (product + 0.5) as u32;
    // Most that are not are found without the division, which is correctly rounded.
    let whole = f64::from(nearest);
    ((product - whole).abs() < 1e-6 && whole / 100.0 == size).then_some(nearest)
}

/// Appends a number. NaN and infinities, which JSON does not have, are errors.
pub(super) fn write_float(number: f64, py: Python<'_>, out: &mut Out) -> PyResult<()> {
    if write_usual(number, out) {
        return Ok(());
    }
    if !number.is_finite() {
        return Err(PyValueError::new_err(format!(
            "JSON has no {number}: send null or text instead"
        )));
    }
    write_repr::<PyFloat>(&PyFloat::new(py, number), out)
}

/// Is the shortest text that reads back as the same number Python's too? Beyond these Python writes an
/// exponent, and in its own way.
fn is_written_alike(number: f64) -> bool {
    number == 0.0 || (1e-4..1e16).contains(&number.abs())
}

fn write_repr<T: pyo3::PyTypeInfo>(value: &Bound<'_, T>, out: &mut Out) -> PyResult<()> {
    let py = value.py();
    let text = py.get_type::<T>().call_method1("__repr__", (value,))?;
    out.extend(text.cast::<PyString>()?.to_str()?.as_bytes());
    Ok(())
}
