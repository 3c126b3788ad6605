//! How much memory a file can make its reader allocate.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Builder, array, mutated, open, text};
use proptest::prelude::*;

/// Counts what a thread has allocated at one time, at most.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    // A thread that is ending has no cells any more, and nobody asks about it.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: allocates as the system does; the cells are constant-initialized, so counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that opening the file takes at one time, beside what there was before.
fn taken(bytes: &[u8]) -> usize {
    let before = NOW.get();
    MOST.set(before);
    let _ = open(bytes);
    (MOST.get() - before) as usize
}

/// The buffer for reading, paths and messages; and for each byte of the file the widest value that one byte can
/// hold (of an array of bytes), in a vector that has just doubled while the old one is still there.
fn most(bytes: &[u8]) -> usize {
    32 * 1024 + 3 * 2 * size_of::<i64>() * bytes.len()
}

/// A file with a count, a length or a dimension of this value in each place that has one.
fn with_number(number: u64) -> Vec<Vec<u8>> {
    let bytes = number.to_le_bytes();
    let key = |kind: u32, value: &[u8]| Builder::default().key("k", kind, value).bytes();
    let of = |kind: u32| key(9, &[&kind.to_le_bytes()[..], &bytes].concat());
    let mut files = vec![
        Builder { tensor_count: Some(number), ..Builder::sample() }.bytes(),
        Builder { key_count: Some(number), ..Builder::sample() }.bytes(),
        key(8, &bytes),
        Builder::sample().tensor("t", &[number, number], 2, 0).bytes(),
        Builder::sample().tensor("t", &[32], 2, number).bytes(),
    ];
    files.extend((0..=12).map(of));
    files
}

#[test]
fn no_number_in_a_file_decides_how_much_is_allocated() {
    for power in 0..64 {
        for number in [1u64 << power, (1 << power) - 1] {
            for file in with_number(number) {
                let taken = taken(&file);
                assert!(taken <= most(&file), "{number}: {taken} for {} bytes", file.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Sound files whose memory is many times their size: arrays of bytes, of bools, of empty texts.
    #[test]
    fn memory_is_proportional_to_the_file(kind in prop::sample::select(vec![0u32, 1, 7]), count in 0usize..20_000) {
        for value in [array(kind, &vec![[1u8]; count]), array(8, &vec![text(""); count])] {
            let file = Builder::default().key("k", 9, &value).bytes();
            prop_assert!(open(&file).is_ok());
            let taken = taken(&file);
            prop_assert!(taken <= most(&file), "{} for {} bytes", taken, file.len());
        }
    }

    #[test]
    fn mutated_files_allocate_no_more(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let bytes = mutated(&changes);
        let taken = taken(&bytes);
        prop_assert!(taken <= most(&bytes), "{} for {} bytes", taken, bytes.len());
    }
}
