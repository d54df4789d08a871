//! The strings of JSON: quoted, and escaped where it must be.

use super::out::Out;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a JSON string. Its bytes are copied as they are, which is nearly always right, and checked
/// meanwhile. Short texts, as most names and values are, are copied as whole words, which overlap: to call
/// a function that copies takes longer.
#[inline(never)]
pub(super) fn write(text: &str, out: &mut Out) {
    let bytes = text.as_bytes();
    if bytes.len() > 32 {
        return write_long(bytes, out);
    }
    let space = out.space::<40>();
    space[0] = b'"';
    let found = copy_short::<1>(bytes, space);
    space[1 + bytes.len()] = b'"';
    if found == 0 {
        out.take(bytes.len() + 2);
    } else {
        write_escaped(bytes, out);
    }
}

/// Copies up to 32 bytes to `AT`. Not 0 if one of them must be escaped.
#[inline]
fn copy_short<const AT: usize>(bytes: &[u8], space: &mut [u8; 40]) -> u64 {
    let end = AT + bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        space[AT..AT + 16].copy_from_slice(first);
        space[end - 16..end].copy_from_slice(last);
        return marks_of_two(first) | marks_of_two(last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        space[AT..AT + 8].copy_from_slice(first);
        space[end - 8..end].copy_from_slice(last);
        return marks(u64::from_le_bytes(*first)) | marks(u64::from_le_bytes(*last));
    }
    let word = short_word(bytes);
    space[AT..AT + 8].copy_from_slice(&word.to_le_bytes());
    marks(word)
}

#[inline(never)]
fn write_long(bytes: &[u8], out: &mut Out) {
    let (words, rest) = bytes.as_chunks::<8>();
    // All of them, without a way out before the end: so the compiler takes several at a time.
    let found = words.iter().fold(marks(short_word(rest)), |found, word| {
        found | marks(u64::from_le_bytes(*word))
    });
    if found == 0 {
        out.push(b'"');
        out.extend(bytes);
        out.push(b'"');
    } else {
        write_escaped(bytes, out);
    }
}

/// Appends text that needs no quotes and no escapes, such as a number.
#[inline]
pub(super) fn write_plain(text: &str, out: &mut Out) {
    let bytes = text.as_bytes();
    if bytes.len() > 32 {
        return out.extend(bytes);
    }
    let space = out.space::<40>();
    copy_short::<0>(bytes, space);
    out.take(bytes.len());
}

/// Appends the beginning of a word.
#[inline]
pub(super) fn write_word(word: [u8; 8], len: usize, out: &mut Out) {
    *out.space() = word;
    out.take(len);
}

#[inline]
pub(super) fn write_bool(value: bool, out: &mut Out) {
    let (word, len) = if value {
        (*b"true    ", 4)
    } else {
        (*b"false   ", 5)
    };
    write_word(word, len, out);
}

/// Appends a UUID as Python writes it, quoted.
pub(super) fn write_uuid(number: u128, out: &mut Out) {
    /// Where the digits of each byte stand.
    const PLACES: [usize; 16] = [1, 3, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 29, 31, 33, 35];
    const BETWEEN: [u8; 38] = *b"\"        -    -    -    -            \"";
    let space = out.space();
    *space = BETWEEN;
    for (byte, place) in number.to_be_bytes().into_iter().zip(PLACES) {
        space[place] = HEX[usize::from(byte >> 4)];
        space[place + 1] = HEX[usize::from(byte & 15)];
    }
    out.take(BETWEEN.len());
}

/// Fewer than eight bytes, the first one lowest, and spaces behind them.
fn short_word(bytes: &[u8]) -> u64 {
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    let len = bytes.len();
    let part = |part: [u8; 4]| u64::from(u32::from_le_bytes(part));
    let at = |at: usize| u64::from(bytes[at]) << (8 * at);
    let word = match (bytes.first_chunk(), bytes.last_chunk(), len) {
        (Some(first), Some(last), _) => part(*first) | part(*last) << (8 * (len - 4)),
        (_, _, 0) => return SPACES,
        _ => at(0) | at(len / 2) | at(len - 1),
    };
    word | SPACES << (8 * len)
}

/// Not 0 if one of its bytes must be escaped.
fn marks(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = EACH << 7;
    // A subtraction sets the highest bit of a byte that is below the subtracted value. It borrows
    // from the next byte, which may be marked too, but only where one is marked.
    let below = |word: u64, limit: u64| word.wrapping_sub(EACH * limit) & !word;
    let is_byte = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (below(word, 0x20) | is_byte(b'"') | is_byte(b'\\')) & HIGHEST
}

fn marks_of_two(words: &[u8; 16]) -> u64 {
    let (words, _) = words.as_chunks::<8>();
    marks(u64::from_le_bytes(words[0])) | marks(u64::from_le_bytes(words[1]))
}

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cold]
fn write_escaped(bytes: &[u8], out: &mut Out) {
    out.push(b'"');
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !is_escaped(byte) {
            continue;
        }
        out.extend(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend(b"\\\""),
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x08 => out.extend(b"\\b"),
            0x0C => out.extend(b"\\f"),
            other => {
                let (high, low) = (HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]);
                out.extend(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend(&bytes[written..]);
    out.push(b'"');
}
