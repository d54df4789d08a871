//! The mask that a client applies to its payload (RFC 6455, section 5.3): payload XOR key, in place.

/// Applies `key` to `payload`, whose first byte is masked with the key's first byte.
///
/// It works on sixteen bytes at a time, as two words: plain enough for LLVM to use the widest vectors that the
/// target has. Most messages are shorter than a cache line or two, so a hand-written vector loop with its prologue
/// would not be faster.
pub(super) fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let word = u32::from_ne_bytes(key) as u64;
    let word = word << 32 | word;
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        let (words, _) = block.as_chunks_mut::<8>();
        for bytes in words {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word as u32).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// The key for the bytes behind the first `taken` bytes of a payload.
pub(super) fn advance(mut key: [u8; 4], taken: usize) -> [u8; 4] {
    key.rotate_left(taken % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    /// The RFC's formula, byte by byte.
    fn reference(payload: &[u8]) -> Vec<u8> {
        payload
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ KEY[i % 4])
            .collect()
    }

    #[test]
    fn every_length_and_alignment_is_unmasked_like_the_rfc_says() {
        let bytes: Vec<u8> = (0..200).map(|i| (i * 7) as u8).collect();
        for start in 0..16 {
            for end in start..bytes.len() {
                let mut actual = bytes.clone();
                unmask(&mut actual[start..end], KEY);
                assert_eq!(actual[start..end], reference(&bytes[start..end])[..]);
                assert_eq!(actual[..start], bytes[..start]);
                assert_eq!(actual[end..], bytes[end..]);
            }
        }
    }

    #[test]
    fn a_payload_may_be_unmasked_in_two_pieces() {
        let bytes: Vec<u8> = (0..64).collect();
        for cut in 0..bytes.len() {
            let mut actual = bytes.clone();
            unmask(&mut actual[..cut], KEY);
            unmask(&mut actual[cut..], advance(KEY, cut));
            assert_eq!(actual, reference(&bytes));
        }
    }
}
