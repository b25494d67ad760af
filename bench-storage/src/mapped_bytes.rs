//! Bytes of a file's mapping. Whoever writes to the file changes them below
//! us, and what a `&[u8]` points to must not change: no reference to them is
//! ever made. They are read by volatile words, which the compiler takes as they
//! come, and compared, and never trusted.

use std::marker::PhantomData;

use memmap2::MmapRaw;

use crate::contents::{BLOCK_BYTES, HEADER_BYTES};

const WORD_BYTES: usize = size_of::<u64>();

/// One op's bytes.
#[derive(Clone, Copy, Debug)]
pub struct MappedBytes<'a> {
    start: *const u64,
    words: usize,
    mapping: PhantomData<&'a MmapRaw>,
}

impl<'a> MappedBytes<'a> {
    /// So many bytes of a mapping from its `at`-th on.
    ///
    /// # Panics
    /// They reach beyond the mapping, or are not whole, aligned words.
    #[inline(always)]
    pub fn of(mapping: &'a MmapRaw, at: usize, bytes: usize) -> Self {
        let end = at.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= mapping.len()),
            "ops lie in the mapping"
        );
        let start = mapping.as_ptr().wrapping_add(at).cast::<u64>();
        assert!(
            start.is_aligned() && bytes.is_multiple_of(WORD_BYTES),
            "ops are whole sectors"
        );
        let words = bytes / WORD_BYTES;
        Self { start, words, mapping: PhantomData }
    }

    /// How many they are.
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        self.words * WORD_BYTES
    }

    /// Reads a word of each block.
    #[inline(always)]
    pub fn touch(&self) {
        for index in (0..self.words).step_by(BLOCK_BYTES / WORD_BYTES) {
            self.word(index);
        }
    }

    /// The 16 bytes from `at`; `None` beyond the end.
    #[inline(always)]
    pub fn head(&self, at: usize) -> Option<[u8; HEADER_BYTES]> {
        let first = at / WORD_BYTES;
        if !at.is_multiple_of(WORD_BYTES) || first + 1 >= self.words {
            return None;
        }
        let mut head = [0; HEADER_BYTES];
        let (low, high) = head.split_at_mut(WORD_BYTES);
        low.copy_from_slice(&self.word(first).to_ne_bytes());
        high.copy_from_slice(&self.word(first + 1).to_ne_bytes());
        Some(head)
    }

    /// Copies as many of them as there is room for, and gives the copy.
    pub fn copy_to<'r>(&self, room: &'r mut [u8]) -> &'r [u8] {
        let (places, _) = room.as_chunks_mut::<WORD_BYTES>();
        for (index, place) in (0..self.words).zip(places) {
            *place = self.word(index).to_ne_bytes();
        }
        let copied = self.bytes().min(room.len());
        &room[..copied]
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        assert!(index < self.words, "words of this op only");
        // SAFETY: `of` has found all words in the mapping, which lives for
        // 'a, and aligned; any bits are a number. The file may be written to
        // meanwhile: the read is volatile, and what it brings may be old or
        // new. Where the file has become shorter the process gets SIGBUS and
        // ends.
        unsafe { self.start.add(index).read_volatile() }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use memmap2::MmapOptions;

    use super::*;

    const BYTES: usize = 2 * BLOCK_BYTES;

    fn mapped() -> (File, MmapRaw) {
        let file = tempfile::tempfile().expect("temporary file");
        let bytes: Vec<u8> =
            (0_u32..).map(|n| n.to_le_bytes()[0]).take(BYTES).collect();
        file.write_all_at(&bytes, 0).expect("write");
        let map = MmapOptions::new().len(BYTES).map_raw_read_only(&file);
        (file, map.expect("a mapping"))
    }

    #[test]
    fn what_is_copied_is_what_the_file_holds_now() {
        let (file, map) = mapped();
        let op = MappedBytes::of(&map, 512, BLOCK_BYTES);
        op.touch();
        let mut room = vec![0; BLOCK_BYTES];
        assert_eq!(op.copy_to(&mut room)[..3], [0, 1, 2]);
        file.write_all_at(&[9; 2], 512).expect("write");
        assert_eq!(op.copy_to(&mut room)[..3], [9, 9, 2]);
        assert_eq!(op.copy_to(&mut room).len(), BLOCK_BYTES);
        assert_eq!(op.copy_to(&mut [0; 24]).len(), 24);
    }

    #[test]
    fn heads_are_sixteen_bytes_of_the_op_or_none() {
        let (_file, map) = mapped();
        let op = MappedBytes::of(&map, 4096, 512);
        assert_eq!(op.head(8), op.head(8 + 256), "it repeats");
        let bytes = op.head(8).expect("in the op");
        assert_eq!((bytes[0], bytes[15]), (8, 23));
        assert!(op.head(512 - 16).is_some());
        for beyond in [512 - 8, 512, 4096] {
            assert_eq!(op.head(beyond), None, "{beyond}");
        }
    }

    #[test]
    #[should_panic(expected = "ops lie in the mapping")]
    fn nothing_beyond_the_mapping_is_an_op() {
        let (_file, map) = mapped();
        MappedBytes::of(&map, BYTES - 512, 1024);
    }
}
