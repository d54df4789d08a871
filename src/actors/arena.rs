//! The arena that holds the items of a batch in their order, and the bytes that belong to them in one block: a small
//! message costs no allocation of its own.

use std::mem;

use super::mailbox::Batch;

/// Capacity of the bytes, in bytes, that a batch retains between bursts.
const MAX_RETAINED_BYTES: usize = 1 << 20;

/// Items and their bytes. The bytes of an item follow those of the item before it; each item has the number of its
/// own.
#[derive(Debug)]
pub struct Arena<T> {
    /// The items in their order.
    pub list: Vec<T>,
    /// The bytes of all items.
    pub bytes: Vec<u8>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl<T> Arena<T> {
    /// Moves everything to the end of `other`.
    pub fn move_to(&mut self, other: &mut Self) {
        if other.list.is_empty() {
            mem::swap(self, other);
        } else {
            other.list.append(&mut self.list);
            other.bytes.append(&mut self.bytes);
        }
    }
}

impl<T> Batch for Arena<T> {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn clear(&mut self) {
        Batch::clear(&mut self.list);
        self.bytes.clear();
        self.bytes.shrink_to(MAX_RETAINED_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An arena of pieces: the items are their lengths.
    fn arena(pieces: &[&str]) -> Arena<usize> {
        Arena {
            list: pieces.iter().map(|piece| piece.len()).collect(),
            bytes: pieces.concat().into_bytes(),
        }
    }

    #[test]
    fn moved_items_and_bytes_come_behind_those_that_are_there() {
        for first in [&[][..], &["a", "bc"]] {
            let mut other = arena(first);
            let mut moved = arena(&["", "def"]);
            moved.move_to(&mut other);
            let all = arena(&[first, &["", "def"]].concat());
            assert_eq!((&other.list, &other.bytes), (&all.list, &all.bytes));
            assert!(moved.list.is_empty() && moved.bytes.is_empty());
        }
    }

    #[test]
    fn memory_of_a_burst_is_returned() {
        let mut arena = arena(&["x"]);
        arena.bytes.resize(4 * MAX_RETAINED_BYTES, 0);
        arena.clear();
        assert!(arena.bytes.capacity() <= MAX_RETAINED_BYTES);
        assert_eq!((arena.len(), arena.bytes.len()), (0, 0));
    }
}
