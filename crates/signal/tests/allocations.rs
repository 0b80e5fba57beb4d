//! What a frame takes from the allocator.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use mantis_signal::{Band, SpectrumPlanner};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: it hands every call to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn a_frame_of_a_known_length_allocates_nothing() {
    let mut planner = SpectrumPlanner::new();
    let frames = [4096, 2560, 2557].map(|samples| (0..samples).map(|at| (at as f64 * 0.37).sin()).collect::<Vec<f64>>());
    let mut all = || {
        for frame in &frames {
            assert!(planner.spectrum(frame, 12_000.0).unwrap().is_some());
            let band = Band::new(500.0, 5000.0).ok();
            assert!(planner.envelope(frame, 12_000.0, band).unwrap().is_some());
        }
    };
    all();
    let before = ALLOCATIONS.get();
    all();
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
